-- What a desk asks first. Records may stand in the log twice (at least once, one event_id): each view counts an event once.

CREATE OR REPLACE VIEW market_trades_flat AS
SELECT
    instrument, first_id + n - 1 AS trade_id, time, price, quantity, maker = 1 AS buyer_maker, backfilled, source, k_partition, k_offset
FROM market_trades
ARRAY JOIN t AS time, p AS price, q AS quantity, m AS maker, arrayEnumerate(t) AS n;

CREATE OR REPLACE VIEW market_marks_flat AS
SELECT
    mk.instrument AS instrument, at, mk.mark AS mark, mk.high AS high, mk.low AS low, mk.last AS last, mk.index AS index,
    mk.funding_rate AS funding_rate, mk.next_funding_at AS next_funding_at, mk.bid AS bid, mk.ask AS ask, source, k_partition, k_offset
FROM market_marks
ARRAY JOIN marks AS mk;

-- The last word on each key; a tombstone ends it.
CREATE OR REPLACE VIEW positions_open AS
SELECT
    account, instrument, side, quantity, entry_price, opened_at, realized_pnl, fees, position_id, revision, entry_client_id, source, at
FROM (SELECT * FROM trade_positions WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY k_key)
WHERE NOT k_tombstone AND status = 'OPEN';

CREATE OR REPLACE VIEW plans_latest AS
SELECT
    account, instrument, side, position_id, plan_id, revision, profile, stop_price, break_even, closing, legs, why, at
FROM (SELECT * FROM trade_exit_plans WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY k_key)
WHERE NOT k_tombstone;

-- Every open position beside the plan that protects it, as the log has them. has_stop = 0: nobody has seen a stop rest.
CREATE OR REPLACE VIEW protection AS
SELECT
    p.account AS account, p.instrument AS instrument, p.side AS side, p.quantity AS quantity, p.entry_price AS entry_price,
    p.opened_at AS opened_at, p.position_id AS position_id, x.plan_id AS plan_id, x.revision AS plan_revision, x.stop_price AS stop_price,
    arrayExists(leg -> leg.kind IN ('NET', 'STOP') AND leg.state = 'RESTING', x.legs) AS has_stop,
    arrayCount(leg -> leg.kind = 'TAKE_PROFIT' AND leg.state = 'RESTING', x.legs) AS take_profits
FROM positions_open AS p
LEFT JOIN plans_latest AS x ON x.position_id = p.position_id;

CREATE OR REPLACE VIEW round_trips AS
SELECT
    account, instrument, side, quantity, entry_price, exit_price, opened_at, closed_at,
    dateDiff('millisecond', opened_at, closed_at) / 1000 AS held_s, realized_pnl, fees, exit_reason, fills, position_id, source
FROM (SELECT * FROM trade_closed WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id);

-- What became of every decision that wanted something: where it stopped, and how long (wall time) each step took.
CREATE OR REPLACE VIEW funnel AS
SELECT
    d.instrument AS instrument, d.at AS at, d.strategy AS strategy, d.action AS action, d.event_id AS decision_id,
    v.outcome AS outcome, v.reason AS reason, e.client_id AS client_id, o.state AS order_state, f.quantity AS filled_quantity,
    multiIf(f.fills > 0, 'FILLED', o.sent_at > 0, 'SENT', e.event_id != '', 'ENTERED', v.event_id != '', 'JUDGED', 'DECIDED') AS reached,
    if(v.event_id = '', NULL, dateDiff('millisecond', d.k_time, v.k_time)) AS verdict_ms,
    if(o.sent_at > 0, dateDiff('millisecond', d.k_time, fromUnixTimestamp64Milli(o.sent_at)), NULL) AS sent_ms,
    if(f.fills > 0, dateDiff('millisecond', d.k_time, f.k_time), NULL) AS filled_ms
FROM (SELECT * FROM signal_decisions WHERE action IN ('LONG', 'SHORT') ORDER BY k_offset LIMIT 1 BY event_id) AS d
LEFT JOIN (SELECT * FROM risk_verdicts ORDER BY k_offset LIMIT 1 BY event_id) AS v ON v.decision_id = d.event_id
LEFT JOIN (SELECT * FROM trade_entries ORDER BY k_offset LIMIT 1 BY event_id) AS e ON e.verdict_id = v.event_id
LEFT JOIN
(
    SELECT client_id, argMax(state, k_offset) AS state, ifNull(min(toUnixTimestamp64Milli(sent_at)), 0) AS sent_at
    FROM trade_orders WHERE purpose = 'ENTRY' GROUP BY client_id
) AS o ON o.client_id = e.client_id
LEFT JOIN
(
    SELECT client_id, sum(quantity) AS quantity, count() AS fills, min(k_time) AS k_time
    FROM (SELECT * FROM trade_fills ORDER BY k_offset LIMIT 1 BY instrument, trade_id) GROUP BY client_id
) AS f ON f.client_id = e.client_id AND e.client_id != '';

-- What stood without a stop, for how long: every interval that the guardian has told, by what ended it. PROTECTED: from fill to stop.
CREATE OR REPLACE VIEW unprotected AS
SELECT account, instrument, at, action, unprotected_s, notional, unprotected_s * notional AS seconds_notional, detail, client_id
FROM (SELECT * FROM guardian_reports WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id)
WHERE action IN ('PROTECTED', 'STOP_PLACED', 'SWAPPED', 'ADOPTED', 'CLOSED', 'FAILED');

-- The brakes as they are now.
CREATE OR REPLACE VIEW brakes AS
SELECT account, scope, phase AS state, toString(reason) AS reason, evidence, since, may_reset_at, trips, actor
FROM (SELECT * FROM breaker_states WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY account, scope)
UNION ALL
SELECT account, 'emergency stop', if(stopped, 'STOPPED', 'RUNNING'), arrayStringConcat(alarms, ','), arrayStringConcat(evidence, '; '), since, since, 0, actor
FROM (SELECT * FROM risk_states WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY account);
