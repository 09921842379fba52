-- The brakes as they are now: every breaker that has ever tripped, and the emergency stop.
--   SELECT scope, state, reason, evidence, since FROM brakes WHERE state NOT IN ('CLOSED', 'RUNNING')
CREATE OR REPLACE VIEW brakes AS
SELECT account, scope, phase AS state, toString(reason) AS reason, evidence, since, may_reset_at, trips, actor
FROM (SELECT * FROM breaker_states WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY account, scope)
UNION ALL
SELECT account, 'emergency stop', if(stopped, 'STOPPED', 'RUNNING'), arrayStringConcat(alarms, ','), arrayStringConcat(evidence, '; '), since, since, 0, actor
FROM (SELECT * FROM risk_states WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY account);

-- Latency by stage, wall milliseconds from the record that caused an event to its own in the log, hour by hour; kept for 400 days. Whole
-- paths of single decisions are in `funnel`.
--   SELECT producer, type, sum(records), max(p50_ms), max(p99_ms), max(worst_ms) FROM latency_by_stage GROUP BY producer, type ORDER BY producer, type
CREATE OR REPLACE VIEW latency_by_stage AS
SELECT
    hour, producer, type, sum(l.records) AS records, quantilesTimingMerge(0.5, 0.9, 0.99)(l.ms) AS found, found[1] AS p50_ms, found[2] AS p90_ms,
    found[3] AS p99_ms, max(l.worst_ms) AS worst_ms
FROM latency_1h AS l
GROUP BY hour, producer, type;

-- Dead letters by what went wrong: how many, since when, and where the newest stands in Kafka. Its bytes: `payload` in dead_letters.
--   SELECT stage, topic, error, letters, last_at, place, detail FROM letters ORDER BY last_at DESC
CREATE OR REPLACE VIEW letters AS
SELECT
    stage, topic, error, count() AS letters, min(at) AS first_at, max(d.at) AS last_at,
    argMax(concat(topic, '/', toString(partition), '/', toString(offset)), k_offset) AS place, argMax(d.detail, k_offset) AS detail
FROM (SELECT * FROM dead_letters WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id) AS d
GROUP BY stage, topic, error;
