-- Open positions: the last word on each key; a tombstone ends it.
--   SELECT instrument, side, quantity, entry_price, opened_at FROM positions_open ORDER BY opened_at
CREATE OR REPLACE VIEW positions_open AS
SELECT
    account, instrument, side, quantity, entry_price, opened_at, realized_pnl, fees, position_id, revision, entry_client_id, source, at
FROM (SELECT * FROM trade_positions WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY k_key)
WHERE NOT k_tombstone AND status = 'OPEN';

-- The plan in force of every open position: how it will be left.
--   SELECT instrument, profile, stop_price, levels, why FROM plans_latest ORDER BY instrument
CREATE OR REPLACE VIEW plans_latest AS
SELECT
    account, instrument, side, position_id, plan_id, revision, profile, style, tp_sl_mode, regime, atr, static, stop_distance, stop_price,
    front_price, break_even, closing, legs, levels, why, at
FROM (SELECT * FROM trade_exit_plans WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY k_key)
WHERE NOT k_tombstone;

-- Every open position beside the plan that protects it, as the log has them. has_stop = 0: nobody has seen a stop rest.
--   SELECT instrument, side, quantity, stop_price, has_stop, take_profits FROM protection ORDER BY has_stop, instrument
CREATE OR REPLACE VIEW protection AS
SELECT
    p.account AS account, p.instrument AS instrument, p.side AS side, p.quantity AS quantity, p.entry_price AS entry_price,
    p.opened_at AS opened_at, p.position_id AS position_id, x.plan_id AS plan_id, x.revision AS plan_revision, x.stop_price AS stop_price,
    arrayExists(leg -> leg.kind IN ('NET', 'STOP') AND leg.state = 'RESTING', x.legs) AS has_stop,
    arrayCount(leg -> leg.kind = 'TAKE_PROFIT' AND leg.state = 'RESTING', x.legs) AS take_profits
FROM positions_open AS p
LEFT JOIN plans_latest AS x ON x.position_id = p.position_id;

-- Every closed position with its profit before fees, its fees, and the reason of the order that took the last of it.
--   SELECT closed_at, instrument, side, realized_pnl - fees AS net, exit_reason, held_s FROM round_trips ORDER BY closed_at DESC LIMIT 30
CREATE OR REPLACE VIEW round_trips AS
SELECT
    account, instrument, side, quantity, entry_price, exit_price, opened_at, closed_at,
    dateDiff('millisecond', opened_at, closed_at) / 1000 AS held_s, realized_pnl, fees, exit_reason, fills, position_id, source
FROM (SELECT * FROM trade_closed WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id);

-- Every position that ever was, as it is now: quantity, entry, what it has realised, and while it is open its mark and what that is worth.
--   SELECT instrument, side, status, quantity, entry_price, mark, unrealized_pnl FROM positions ORDER BY status DESC, opened_at DESC LIMIT 20
CREATE OR REPLACE VIEW positions AS
SELECT
    p.account AS account, p.instrument AS instrument, p.side AS side, p.status AS status, p.quantity AS quantity, p.entry_price AS entry_price,
    p.opened_at AS opened_at, if(p.status = 'FLAT', p.at, NULL) AS closed_at, p.realized_pnl AS realized_pnl, p.fees AS fees,
    if(p.status = 'OPEN' AND m.mark > 0, m.mark, NULL) AS mark,
    (m.mark - toFloat64(p.entry_price)) * toFloat64(p.quantity) * if(p.side = 'LONG', 1, -1) + 0 * mark AS unrealized_pnl,
    p.revision AS revision, p.position_id AS position_id, p.entry_client_id AS entry_client_id, p.source AS source
FROM
(
    SELECT * FROM trade_positions WHERE k_error = '' AND NOT k_tombstone ORDER BY revision DESC, k_offset DESC LIMIT 1 BY position_id
) AS p
LEFT JOIN marks_latest AS m ON m.instrument = p.instrument;

-- Which order belongs to which position: the entry and its stop, every order of exits, every leg of its plans.
--   SELECT position_id, groupArray((leg, client_id)) FROM position_orders GROUP BY position_id LIMIT 5
CREATE OR REPLACE VIEW position_orders AS
SELECT client_id, any(id) AS position_id, max(what) AS leg
FROM
(
    SELECT entry_client_id AS client_id, position_id AS id, 'ENTRY' AS what FROM trade_positions WHERE k_error = '' AND NOT k_tombstone
    UNION ALL
    SELECT e.stop_client_id AS client_id, p.position_id AS id, 'NET' AS what
    FROM trade_entries AS e
    INNER JOIN (SELECT DISTINCT entry_client_id, position_id FROM trade_positions WHERE k_error = '' AND NOT k_tombstone) AS p
        ON p.entry_client_id = e.client_id
    UNION ALL
    SELECT client_id, position_id AS id, multiIf(action = 'CLOSE', 'CLOSE', action = 'PLACE_TAKE_PROFIT', 'TAKE_PROFIT', close_position, 'NET', 'STOP') AS what
    FROM trade_exits WHERE k_error = '' AND action != 'CANCEL'
    UNION ALL
    SELECT leg.client_id AS client_id, position_id AS id, toString(leg.kind) AS what
    FROM trade_exit_plans ARRAY JOIN legs AS leg WHERE k_error = '' AND NOT k_tombstone
)
WHERE client_id != '' AND id != ''
GROUP BY client_id;

-- Every trade of the desk, open ones too: entry, quantity, leverage, first stop and take-profits, profit, created and closed. stop_price and
-- take_profits are those of the first plan, leverage that of the intent (NULL where a position was none of ours).
--   SELECT created, instrument, side, quantity, entry_price, leverage, stop_price, take_profits, net_pnl, closed FROM trades ORDER BY created DESC LIMIT 20
CREATE OR REPLACE VIEW trades AS
SELECT
    t.account AS account, t.instrument AS instrument, t.side AS side, t.status AS status, t.quantity AS quantity, t.entry_price AS entry_price,
    t.exit_price AS exit_price, nullIf(e.leverage, 0) AS leverage,
    if(x.stop_price > 0, x.stop_price, nullIf(e.stop_price, 0)) AS stop_price,
    arraySort(arrayMap(leg -> leg.price, arrayFilter(leg -> leg.kind = 'TAKE_PROFIT', x.legs))) AS take_profits,
    t.realized_pnl AS realized_pnl, t.fees AS fees, t.realized_pnl - t.fees AS net_pnl, t.opened_at AS created, t.closed_at AS closed,
    t.exit_reason AS exit_reason, e.strategy AS strategy, x.profile AS profile, e.decision_id AS decision_id, t.position_id AS position_id,
    t.source AS source
FROM
(
    SELECT
        account, instrument, side, 'CLOSED' AS status, quantity, entry_price, toNullable(exit_price) AS exit_price, realized_pnl, fees,
        opened_at, toNullable(closed_at) AS closed_at, toString(exit_reason) AS exit_reason, entry_client_id, position_id, source
    FROM trade_closed WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY position_id
    UNION ALL
    SELECT
        account, instrument, side, 'OPEN' AS status, quantity, entry_price, NULL AS exit_price, realized_pnl, fees, opened_at, NULL AS closed_at,
        '' AS exit_reason, entry_client_id, position_id, source
    FROM positions_open WHERE position_id NOT IN (SELECT position_id FROM trade_closed)
) AS t
LEFT JOIN (SELECT * FROM trade_entries WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY client_id) AS e ON e.client_id = t.entry_client_id
LEFT JOIN
(
    SELECT * FROM trade_exit_plans WHERE k_error = '' AND NOT k_tombstone
    ORDER BY NOT arrayExists(leg -> leg.kind = 'TAKE_PROFIT', legs), revision, k_offset LIMIT 1 BY position_id
) AS x ON x.position_id = t.position_id;

-- Life of a trade: everything that was said about a position, in the order in which it stood in the log (wall time), from the decision to
-- the round trip.
--   SELECT k_time, what, detail FROM trade_life WHERE position_id = (SELECT position_id FROM trades ORDER BY created DESC LIMIT 1) ORDER BY k_time
CREATE OR REPLACE VIEW trade_life AS
SELECT e.position_id AS position_id, k_time, at, instrument, what, detail, event_id
FROM
(
    SELECT any(position_id) AS position_id, e.decision_id AS decision_id, e.verdict_id AS verdict_id, e.event_id AS entry_id
    FROM trade_entries AS e
    INNER JOIN position_orders AS o ON o.client_id = e.client_id
    GROUP BY decision_id, verdict_id, entry_id
) AS e
INNER JOIN
(
    SELECT event_id AS cause, k_time, at, instrument, concat('decision ', action) AS what, concat(reason, ' ', detail) AS detail, event_id, k_offset
    FROM signal_decisions WHERE action != 'HOLD'
    UNION ALL
    SELECT decision_id AS cause, k_time, at, instrument, concat('verdict ', outcome) AS what, concat(reason, ' ', detail) AS detail, event_id, k_offset
    FROM risk_verdicts
    UNION ALL
    SELECT decision_id AS cause, k_time, at, instrument, 'entry' AS what, concat(side, ' ', toString(quantity), ' x', toString(leverage), ', stop ', toString(stop_price)) AS detail, event_id, k_offset
    FROM trade_entries
) AS said ON said.cause = e.decision_id
ORDER BY k_offset
LIMIT 1 BY event_id, position_id
UNION ALL
SELECT l.position_id AS position_id, k_time, at, instrument, what, detail, event_id
FROM position_orders AS l
INNER JOIN
(
    SELECT client_id, k_time, at, instrument, concat('order ', state) AS what, concat(purpose, ' ', client_id, ' ', reason) AS detail, event_id, k_offset
    FROM trade_orders WHERE k_error = ''
    UNION ALL
    SELECT client_id, k_time, at, instrument, 'fill' AS what, concat(purpose, ' ', side, ' ', toString(quantity), ' @ ', toString(price)) AS detail, event_id, k_offset
    FROM trade_fills WHERE k_error = ''
) AS o ON o.client_id = l.client_id
ORDER BY k_offset
LIMIT 1 BY event_id
UNION ALL
SELECT position_id, k_time, at, instrument, what, detail, event_id
FROM
(
    SELECT position_id, k_time, at, instrument, concat('plan ', toString(revision)) AS what, concat(why, '; ', levels) AS detail, event_id, k_offset
    FROM trade_exit_plans WHERE k_error = '' AND NOT k_tombstone
    UNION ALL
    SELECT position_id, k_time, at, instrument, concat('exit ', decision) AS what, concat(reason, ' ', detail) AS detail, event_id, k_offset
    FROM trade_exit_decisions WHERE k_error = '' AND type = 'trade.exit-decision' AND mode = 'LIVE'
    UNION ALL
    SELECT position_id, k_time, at, instrument, concat('wish ', action) AS what, concat(reason, ' ', detail) AS detail, event_id, k_offset
    FROM trade_exits WHERE k_error = ''
    UNION ALL
    SELECT position_id, k_time, at, instrument, concat('position ', status) AS what, concat(side, ' ', toString(quantity), ' @ ', toString(entry_price)) AS detail, event_id, k_offset
    FROM trade_positions WHERE k_error = '' AND NOT k_tombstone
    UNION ALL
    SELECT position_id, k_time, at, instrument, 'closed' AS what, concat(exit_reason, ', ', toString(realized_pnl), ' before fees of ', toString(fees)) AS detail, event_id, k_offset
    FROM trade_closed WHERE k_error = ''
)
ORDER BY k_offset
LIMIT 1 BY event_id;
