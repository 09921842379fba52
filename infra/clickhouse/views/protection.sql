-- What stood without a stop, for how long: every interval that the guardian has told, by what ended it. PROTECTED: from fill to stop.
--   SELECT at, instrument, action, unprotected_s, notional FROM unprotected ORDER BY unprotected_s DESC LIMIT 20
CREATE OR REPLACE VIEW unprotected AS
SELECT account, instrument, at, action, unprotected_s, notional, unprotected_s * notional AS seconds_notional, detail, client_id
FROM (SELECT * FROM guardian_reports WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY event_id)
WHERE action IN ('PROTECTED', 'STOP_PLACED', 'SWAPPED', 'ADOPTED', 'CLOSED', 'FAILED');

-- Life of a stop: one row for each that was ever wanted, in wall time: planned, sent, resting, ended and how; filled at which price, and how much
-- worse than its level (basis points; a gain is negative). The guardian's own are told by the exchange alone: no planned_at, no sent_at.
--   SELECT planned_at, instrument, leg, trigger_price, dateDiff('millisecond', planned_at, resting_at) AS to_rest_ms, state, fill_price, round(slip_bps, 2) FROM stop_life ORDER BY planned_at DESC LIMIT 20
CREATE OR REPLACE VIEW stop_life AS
SELECT
    s.account AS account, s.instrument AS instrument, s.client_id AS client_id, p.position_id AS position_id,
    if(p.leg != '', p.leg, toString(s.purpose)) AS leg, s.side AS side, s.level AS trigger_price, s.planned_at AS planned_at, s.sent_at AS sent_at,
    s.resting_at AS resting_at, s.ended_at AS ended_at, s.state AS state, s.why AS why, nullIf(f.price, 0) AS fill_price, f.quantity AS filled_quantity,
    if(f.price > 0 AND s.level > 0, (f.price - toFloat64(s.level)) / toFloat64(s.level) * 1e4 * if(s.side = 'SELL', -1, 1), NULL) AS slip_bps
FROM
(
    SELECT
        client_id, any(o.account) AS account, any(o.instrument) AS instrument, any(o.purpose) AS purpose, any(o.side) AS side, max(o.level) AS level,
        minIf(o.k_time, o.own) AS first, if(first = 0, NULL, first) AS planned_at, min(o.sent) AS sent_at,
        minIf(o.k_time, o.rests) AS rest, if(rest = 0, NULL, rest) AS resting_at, minIf(o.k_time, o.ends) AS last,
        if(last = 0, NULL, last) AS ended_at, argMax(o.said, (o.own, o.k_offset)) AS state, argMax(o.because, (o.own, o.k_offset)) AS why
    FROM
    (
        SELECT
            client_id, account, instrument, purpose, side, ifNull(trigger_price, 0) AS level, k_time, k_offset, sent_at AS sent, true AS own,
            state = 'ACKED' AS rests, state IN ('FILLED', 'CANCELED', 'EXPIRED', 'REFUSED', 'ABANDONED') AS ends, toString(state) AS said, reason AS because
        FROM trade_orders WHERE k_error = '' AND purpose IN ('STOP', 'GUARDIAN') AND cancels IS NULL
        UNION ALL
        SELECT
            client_id, account, instrument, purpose, side, trigger_price AS level, k_time, k_offset, NULL AS sent, false AS own, status = 'NEW' AS rests,
            status IN ('CANCELED', 'EXPIRED', 'REJECTED', 'FINISHED') AS ends, toString(status) AS said, detail AS because
        FROM account_order_updates WHERE k_error = '' AND book = 'ALGO' AND purpose IN ('STOP', 'GUARDIAN')
    ) AS o
    GROUP BY client_id
) AS s
LEFT JOIN position_orders AS p ON p.client_id = s.client_id
LEFT JOIN
(
    SELECT client_id, sum(toFloat64(t.price) * toFloat64(t.quantity)) / sum(toFloat64(t.quantity)) AS price, sum(t.quantity) AS quantity
    FROM (SELECT * FROM trade_fills WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY instrument, trade_id) AS t GROUP BY client_id
) AS f ON f.client_id = s.client_id;

-- Protection coverage: how long each position was open and how much of it a stop rested, in wall seconds as the log saw it; naked_s is the
-- rest, in bare stretches of which the longest lasted worst_s. Between fill and stop lies one round trip, so a whole trade is never at 100 %.
--   SELECT instrument, opened, open_s, covered, naked_s, worst_s FROM protection_coverage ORDER BY worst_s DESC LIMIT 20
CREATE OR REPLACE VIEW protection_coverage AS
SELECT
    account, instrument, side, position_id, min(began) AS opened, if(any(is_open), NULL, max(ended)) AS closed,
    dateDiff('millisecond', min(began), max(ended)) / 1000 AS open_s, sum(bare_ms) / 1000 AS naked_s, max(bare_ms) / 1000 AS worst_s,
    if(open_s > 0, 1 - naked_s / open_s, 1) AS covered
FROM
(
    SELECT
        *, sum(change) OVER (PARTITION BY position_id ORDER BY moment, change DESC ROWS UNBOUNDED PRECEDING) AS resting,
        leadInFrame(moment, 1, moment) OVER (PARTITION BY position_id ORDER BY moment, change DESC ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS next_moment,
        if(resting = 0, dateDiff('millisecond', moment, next_moment), 0) AS bare_ms
    FROM
    (
        SELECT account, instrument, side, position_id, began, ended, is_open, edge.1 AS moment, edge.2 AS change
        FROM
        (
            SELECT
                p.account AS account, p.instrument AS instrument, p.side AS side, p.position_id AS position_id, p.began AS began, p.ended AS ended,
                p.is_open AS is_open,
                arrayConcat(
                    [(p.began, 0), (p.ended, 0)],
                    arrayFlatten(arrayMap(
                        stop -> [(greatest(stop.1, p.began), 1), (least(stop.2, p.ended), -1)],
                        arrayFilter(stop -> stop.1 < p.ended AND stop.2 > p.began, s.stops)))) AS edges
            FROM
            (
                SELECT
                    position_id, any(account) AS account, any(instrument) AS instrument, any(side) AS side, min(k_time) AS began,
                    countIf(status = 'FLAT') = 0 AS is_open, if(is_open, (SELECT max(k_time) FROM trade_orders), maxIf(k_time, status = 'FLAT')) AS last,
                    greatest(last, began) AS ended
                FROM trade_positions WHERE k_error = '' AND NOT k_tombstone GROUP BY position_id
            ) AS p
            LEFT JOIN
            (
                SELECT
                    instrument, if(side = 'SELL', 'LONG', 'SHORT') AS side,
                    groupArray((assumeNotNull(resting_at), ifNull(ended_at, toDateTime64('2100-01-01 00:00:00', 3, 'UTC')))) AS stops
                FROM stop_life WHERE resting_at IS NOT NULL GROUP BY instrument, side
            ) AS s ON s.instrument = p.instrument AND s.side = p.side
        )
        ARRAY JOIN edges AS edge
    )
)
GROUP BY account, instrument, side, position_id;
