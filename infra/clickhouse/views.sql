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
    account, instrument, side, position_id, plan_id, revision, profile, style, tp_sl_mode, regime, atr, static, stop_distance, stop_price,
    front_price, break_even, closing, legs, levels, why, at
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

-- Every plan that has come to its end. mode SHADOW: on paper, before costs; LIVE: what the fills gave, fees apart. The reason of a stop before
-- the net is that of the rule that put it there. result_pct: per cent of the entry value; result_r: in initial stop distances.
CREATE OR REPLACE VIEW exit_trips AS
SELECT
    'LIVE' AS mode, c.account AS account, c.instrument AS instrument, c.side AS side, c.position_id AS position_id, p.profile AS profile,
    ifNull(p.style, '') AS style, ifNull(p.tp_sl_mode, '') AS tp_sl_mode, ifNull(p.regime, '') AS regime,
    if(x.reason != '', x.reason, toString(c.exit_reason)) AS reason, c.closed_at AS closed_at,
    dateDiff('millisecond', c.opened_at, c.closed_at) / 1000 AS held_s,
    toFloat64(c.realized_pnl) / (toFloat64(c.quantity) * toFloat64(c.entry_price)) * 100 AS result_pct,
    if(p.stop_distance > 0, result_pct / 100 / toFloat64(p.stop_distance), NULL) AS result_r,
    toNullable(c.realized_pnl) AS pnl, toNullable(c.fees) AS fees
FROM (SELECT * FROM trade_closed WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY position_id) AS c
LEFT JOIN
(
    SELECT * FROM trade_exit_plans WHERE k_error = '' AND NOT k_tombstone ORDER BY k_offset DESC LIMIT 1 BY position_id
) AS p ON p.position_id = c.position_id
LEFT JOIN
(
    SELECT o.client_id AS client_id, toString(any(e.reason)) AS reason
    FROM trade_orders AS o
    INNER JOIN (SELECT * FROM trade_exits WHERE action = 'PLACE_STOP' AND NOT close_position) AS e ON e.event_id = o.intent_id
    GROUP BY client_id
) AS x ON x.client_id = c.exit_client_id
UNION ALL
SELECT
    'SHADOW' AS mode, account, instrument, side, position_id, ifNull(profile, '') AS profile, ifNull(style, '') AS style,
    ifNull(tp_sl_mode, '') AS tp_sl_mode, ifNull(regime, '') AS regime, toString(reason) AS reason, at AS closed_at,
    ifNull(held_s, 0) AS held_s, ifNull(result_pct, 0) AS result_pct, result_r, NULL AS pnl, NULL AS fees
FROM
(
    SELECT * FROM trade_exit_decisions WHERE k_error = '' AND mode = 'SHADOW' AND decision = 'DONE' ORDER BY k_offset LIMIT 1 BY event_id
);

-- How exits do, by what decided them. hit_rate: the share of these trips among all of the same plan and regime.
CREATE OR REPLACE VIEW exit_performance AS
SELECT
    mode, profile, style, tp_sl_mode, regime, reason, count() AS trips, countIf(result_pct > 0) AS wins, wins / trips AS win_rate,
    trips / sum(trips) OVER (PARTITION BY mode, profile, style, tp_sl_mode, regime) AS hit_rate, avg(result_pct) AS mean_pct,
    avg(result_r) AS mean_r, sum(pnl) AS pnl, sum(fees) AS fees, avg(held_s) AS mean_held_s
FROM exit_trips
GROUP BY mode, profile, style, tp_sl_mode, regime, reason;

-- The shadow against the plan that ordered, position by position; both before costs.
CREATE OR REPLACE VIEW exit_shadows AS
SELECT
    s.instrument AS instrument, s.position_id AS position_id, s.regime AS regime, l.profile AS live_profile, s.profile AS shadow_profile,
    s.style AS shadow_style, s.tp_sl_mode AS shadow_tp_sl_mode, l.reason AS live_reason, s.reason AS shadow_reason,
    l.result_pct AS live_pct, s.result_pct AS shadow_pct, s.result_pct - l.result_pct AS better_by_pct, l.held_s AS live_held_s,
    s.held_s AS shadow_held_s
FROM (SELECT * FROM exit_trips WHERE mode = 'SHADOW') AS s
INNER JOIN (SELECT * FROM exit_trips WHERE mode = 'LIVE') AS l ON l.position_id = s.position_id;

-- Plans that hold, one row for each plan and marks record.
CREATE OR REPLACE VIEW exit_holds_flat AS
SELECT
    account, at, instrument, plan_id, plan_revision, plan_mode AS mode, hold_mark AS mark, marks_offset, partition, policy_version
FROM
(
    SELECT
        account, at, partition, marks_offset, policy_version, arrayJoin(arrayZip(instruments, plan_ids, plan_revisions, modes, marks)) AS held,
        held.1 AS instrument, held.2 AS plan_id, held.3 AS plan_revision, held.4 AS plan_mode, held.5 AS hold_mark
    FROM (SELECT * FROM trade_exit_decisions WHERE type = 'trade.exit-holds' AND k_error = '' ORDER BY k_offset LIMIT 1 BY event_id)
);

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
