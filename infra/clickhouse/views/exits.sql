-- Every plan that has come to its end. mode SHADOW: on paper, before costs; LIVE: what the fills gave, fees apart. The reason of a stop before
-- the net is that of the rule that put it there. result_pct: per cent of the entry value; result_r: in initial stop distances.
--   SELECT mode, instrument, profile, reason, round(result_pct, 2), round(result_r, 2) FROM exit_trips ORDER BY closed_at DESC LIMIT 20
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
--   SELECT mode, profile, regime, reason, trips, win_rate, hit_rate, mean_r FROM exit_performance ORDER BY mode, profile, trips DESC
CREATE OR REPLACE VIEW exit_performance AS
SELECT
    mode, profile, style, tp_sl_mode, regime, reason, count() AS trips, countIf(result_pct > 0) AS wins, wins / trips AS win_rate,
    trips / sum(trips) OVER (PARTITION BY mode, profile, style, tp_sl_mode, regime) AS hit_rate, avg(result_pct) AS mean_pct,
    avg(result_r) AS mean_r, sum(pnl) AS pnl, sum(fees) AS fees, avg(held_s) AS mean_held_s
FROM exit_trips
GROUP BY mode, profile, style, tp_sl_mode, regime, reason;

-- The shadow against the plan that ordered, position by position; both before costs.
--   SELECT shadow_profile, count(), avg(better_by_pct) FROM exit_shadows GROUP BY shadow_profile
CREATE OR REPLACE VIEW exit_shadows AS
SELECT
    s.instrument AS instrument, s.position_id AS position_id, s.regime AS regime, l.profile AS live_profile, s.profile AS shadow_profile,
    s.style AS shadow_style, s.tp_sl_mode AS shadow_tp_sl_mode, l.reason AS live_reason, s.reason AS shadow_reason,
    l.result_pct AS live_pct, s.result_pct AS shadow_pct, s.result_pct - l.result_pct AS better_by_pct, l.held_s AS live_held_s,
    s.held_s AS shadow_held_s
FROM (SELECT * FROM exit_trips WHERE mode = 'SHADOW') AS s
INNER JOIN (SELECT * FROM exit_trips WHERE mode = 'LIVE') AS l ON l.position_id = s.position_id;

-- Plans that hold, one row for each plan and marks record.
--   SELECT at, instrument, plan_id, mark FROM exit_holds_flat ORDER BY at DESC LIMIT 10
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
