-- Every decision of a strategy, HOLD too, with what it was decided on and what risk said of it; outcome is empty while risk has not spoken.
--   SELECT at, instrument, action, round(confidence, 3), outcome, verdict FROM signals WHERE action != 'HOLD' ORDER BY at DESC LIMIT 20
CREATE OR REPLACE VIEW signals AS
SELECT
    d.event_id AS decision_id, d.at AS at, d.instrument AS instrument, d.strategy AS strategy, d.action AS action, d.reason AS reason,
    d.detail AS detail, d.confidence AS confidence, d.probability AS probability, d.edge AS edge, d.cost AS cost, d.regime AS regime,
    d.reference_price AS reference_price, d.model_version AS model_version, d.rank AS rank, d.ranked AS ranked, d.score AS score,
    d.blocked AS blocked, v.outcome AS outcome, v.reason AS verdict, v.detail AS verdict_detail, v.leverage AS leverage,
    v.quantity AS quantity, d.policy_version AS policy_version, d.source AS source
FROM (SELECT * FROM signal_decisions WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id) AS d
LEFT JOIN (SELECT * FROM risk_verdicts WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id) AS v ON v.decision_id = d.event_id;

-- Why was this signal refused: one row for each place that said no. stage SIGNALS: it was never wished (HOLD); RISK: the verdict;
-- EXECUTION: the entry was sent for nothing (refused, given up, expired or cancelled before anything was filled), with the exchange's code.
--   SELECT at, instrument, stage, reason, detail FROM refusals WHERE stage != 'SIGNALS' ORDER BY at DESC LIMIT 20
CREATE OR REPLACE VIEW refusals AS
SELECT
    'SIGNALS' AS stage, at, instrument, strategy, toString(action) AS action, toString(reason) AS reason, detail, confidence, decision_id,
    policy_version
FROM signals
WHERE action = 'HOLD'
UNION ALL
SELECT
    'RISK' AS stage, at, instrument, strategy, toString(action) AS action, toString(verdict) AS reason, verdict_detail AS detail, confidence,
    decision_id, policy_version
FROM signals
WHERE outcome = 'REFUSED'
UNION ALL
SELECT
    'EXECUTION' AS stage, s.at AS at, s.instrument AS instrument, s.strategy AS strategy, toString(s.action) AS action,
    toString(o.last_state) AS reason, if(o.code = 0, o.why, concat(o.why, ' (code ', toString(o.code), ')')) AS detail, s.confidence AS confidence,
    s.decision_id AS decision_id, s.policy_version AS policy_version
FROM signals AS s
INNER JOIN (SELECT * FROM trade_entries WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id) AS e ON e.decision_id = s.decision_id
INNER JOIN
(
    SELECT
        client_id, argMax(state, k_offset) AS last_state, argMax(reason, k_offset) AS why, ifNull(argMax(error_code, k_offset), 0) AS code,
        max(filled_quantity) AS filled
    FROM trade_orders WHERE k_error = '' AND purpose = 'ENTRY' AND cancels IS NULL GROUP BY client_id
) AS o ON o.client_id = e.client_id
WHERE o.last_state IN ('REFUSED', 'ABANDONED', 'EXPIRED', 'CANCELED') AND o.filled = 0;

-- What became of every decision that wanted something: where it stopped, and how long (wall time) each step took.
--   SELECT reached, reason, count(), median(verdict_ms), median(filled_ms) FROM funnel GROUP BY reached, reason ORDER BY count() DESC
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

-- Model against outcome: every prediction whose horizon is over, beside what the market did from its candle's close on. said and came are
-- log returns (said: the edge that it expected, before cost); right: the side was.
--   SELECT model_version, shadow, count(), avg(right), corr(p_up - p_down, came) FROM model_outcomes GROUP BY model_version, shadow
CREATE OR REPLACE VIEW model_outcomes AS
SELECT
    p.at AS at, p.instrument AS instrument, p.model AS model, p.model_version AS model_version, p.shadow AS shadow, p.side AS side,
    p.confidence AS confidence, p.p_up AS p_up, p.p_down AS p_down, p.horizon_bars AS horizon_bars, p.edge AS said,
    log(b.c / a.c) AS came, came != 0 AND (p.side = 'LONG') = (came > 0) AS right, p.source AS source
FROM (SELECT * FROM signal_predictions WHERE k_error = '' AND NOT forming ORDER BY k_offset LIMIT 1 BY event_id) AS p
INNER JOIN (SELECT instrument, at, any(c) AS c FROM market_candles WHERE interval = '5m' GROUP BY instrument, at) AS a
    ON a.instrument = p.instrument AND a.at = p.at
INNER JOIN (SELECT instrument, at, any(c) AS c FROM market_candles WHERE interval = '5m' GROUP BY instrument, at) AS b
    ON b.instrument = p.instrument AND b.at = addMinutes(p.at, 5 * p.horizon_bars);

-- Whether a probability means what it says: predictions in ten classes of p_up, and the share of each after which the price had risen.
--   SELECT p_up_from, predictions, round(said, 3), round(came, 3) FROM model_calibration ORDER BY model_version, p_up_from
CREATE OR REPLACE VIEW model_calibration AS
SELECT
    model_version, shadow, least(floor(p_up * 10) / 10, 0.9) AS p_up_from, count() AS predictions, avg(p_up) AS said,
    avg(model_outcomes.came > 0) AS came, avg(right) AS hit_rate
FROM model_outcomes
GROUP BY model_version, shadow, p_up_from;

-- Which model version people asked to serve or to score in the shadow, and what the serving worker made of it. Training itself happens
-- outside the street: its data, folds and figures stand in the version's manifest (`quantum model show`).
--   SELECT number, asked_at, version, actor, outcome, from_at, detail FROM retraining_jobs ORDER BY number DESC
CREATE OR REPLACE VIEW retraining_jobs AS
SELECT
    v.number AS number, v.at AS asked_at, v.active AS version, v.previous AS previous, v.shadow AS shadow, v.actor AS actor, v.reason AS reason,
    if(s.event_id = '', 'PENDING', toString(s.outcome)) AS outcome, if(s.event_id = '', NULL, s.from_at) AS from_at, s.active AS serving,
    trimBoth(concat(s.reason, ' ', s.detail)) AS detail
FROM (SELECT * FROM model_versions WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id) AS v
LEFT JOIN (SELECT * FROM model_switches WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY number) AS s ON s.number = v.number;
