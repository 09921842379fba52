-- What the log is added up to as it is written. `ingested` is the day of the record in Kafka: rows of one day stand in one partition, so that
-- retention goes by it, and a restore can make the last days again from their rows.

-- Candles of a minute, from trades.
CREATE TABLE IF NOT EXISTS candles_1m
(
    instrument LowCardinality(String),
    open_at DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    ingested Date,
    o AggregateFunction(argMin, Float64, Int64),
    h SimpleAggregateFunction(max, Float64),
    l SimpleAggregateFunction(min, Float64),
    c AggregateFunction(argMax, Float64, Int64),
    volume SimpleAggregateFunction(sum, Decimal(38, 12)),
    quote_volume SimpleAggregateFunction(sum, Decimal(38, 12)),
    taker_buy_volume SimpleAggregateFunction(sum, Decimal(38, 12)),
    trades SimpleAggregateFunction(sum, UInt64),
    first_id SimpleAggregateFunction(min, Int64),
    last_id SimpleAggregateFunction(max, Int64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(ingested)
ORDER BY (instrument, open_at, ingested)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Candles of one minute, states: ask the view candles';

CREATE MATERIALIZED VIEW IF NOT EXISTS candles_1m_of_trades TO candles_1m AS
SELECT
    f.instrument AS instrument, toDateTime(toStartOfMinute(time), 'UTC') AS open_at, toDate(f.k_time) AS ingested,
    argMinState(price, f.first_id + n - 1) AS o, max(price) AS h, min(price) AS l, argMaxState(price, f.first_id + n - 1) AS c,
    sum(toDecimal128(quantity, 12)) AS volume, sum(toDecimal128(price * quantity, 12)) AS quote_volume,
    sum(if(taken = 0, toDecimal128(quantity, 12), 0)) AS taker_buy_volume, count() AS trades, min(f.first_id + n - 1) AS first_id,
    max(f.first_id + n - 1) AS last_id
FROM market_trades AS f
ARRAY JOIN t AS time, p AS price, q AS quantity, m AS taken, arrayEnumerate(t) AS n
GROUP BY instrument, open_at, ingested;

-- Profit of a day: the round trips themselves as a set, so that one which stands in the log twice counts once.
CREATE TABLE IF NOT EXISTS pnl_1d
(
    account LowCardinality(String),
    day Date,
    instrument LowCardinality(String),
    ingested Date,
    trips AggregateFunction(groupUniqArray, Tuple(String, Decimal(38, 12), Decimal(38, 12)))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(ingested)
ORDER BY (account, day, instrument, ingested)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Round trips of a day as sets of (position, profit, fees): ask the view daily_pnl';

CREATE MATERIALIZED VIEW IF NOT EXISTS pnl_1d_of_closed TO pnl_1d AS
SELECT
    c.account AS account, toDate(c.closed_at) AS day, c.instrument AS instrument, toDate(c.k_time) AS ingested,
    groupUniqArrayState((c.position_id, c.realized_pnl, c.fees)) AS trips
FROM trade_closed AS c
WHERE c.k_error = '' AND NOT c.k_tombstone
GROUP BY account, day, instrument, ingested;

-- Wall time from an event's cause to the event, by stage and hour.
CREATE TABLE IF NOT EXISTS latency_1h
(
    producer LowCardinality(String),
    type LowCardinality(String),
    hour DateTime('UTC'),
    ingested Date,
    ms AggregateFunction(quantilesTiming(0.5, 0.9, 0.99), Int64),
    records SimpleAggregateFunction(sum, UInt64),
    worst_ms SimpleAggregateFunction(max, Int64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(ingested)
ORDER BY (producer, type, hour, ingested)
TTL ingested + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1
COMMENT 'Milliseconds from cause to event, states: ask the view latency_by_stage';

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_1h_of_market_features TO latency_1h AS
SELECT
    r.k_headers['producer'] AS producer, r.type AS type, toDateTime(toStartOfHour(r.k_time), 'UTC') AS hour, toDate(r.k_time) AS ingested,
    quantilesTimingState(0.5, 0.9, 0.99)(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS ms,
    count() AS records, max(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS worst_ms
FROM market_features AS r
WHERE r.k_headers['caused_at'] != ''
GROUP BY producer, type, hour, ingested;

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_1h_of_signal_predictions TO latency_1h AS
SELECT
    r.k_headers['producer'] AS producer, r.type AS type, toDateTime(toStartOfHour(r.k_time), 'UTC') AS hour, toDate(r.k_time) AS ingested,
    quantilesTimingState(0.5, 0.9, 0.99)(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS ms,
    count() AS records, max(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS worst_ms
FROM signal_predictions AS r
WHERE r.k_headers['caused_at'] != ''
GROUP BY producer, type, hour, ingested;

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_1h_of_signal_decisions TO latency_1h AS
SELECT
    r.k_headers['producer'] AS producer, r.type AS type, toDateTime(toStartOfHour(r.k_time), 'UTC') AS hour, toDate(r.k_time) AS ingested,
    quantilesTimingState(0.5, 0.9, 0.99)(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS ms,
    count() AS records, max(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS worst_ms
FROM signal_decisions AS r
WHERE r.k_headers['caused_at'] != ''
GROUP BY producer, type, hour, ingested;

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_1h_of_risk_verdicts TO latency_1h AS
SELECT
    r.k_headers['producer'] AS producer, r.type AS type, toDateTime(toStartOfHour(r.k_time), 'UTC') AS hour, toDate(r.k_time) AS ingested,
    quantilesTimingState(0.5, 0.9, 0.99)(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS ms,
    count() AS records, max(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS worst_ms
FROM risk_verdicts AS r
WHERE r.k_headers['caused_at'] != ''
GROUP BY producer, type, hour, ingested;

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_1h_of_trade_positions TO latency_1h AS
SELECT
    r.k_headers['producer'] AS producer, r.type AS type, toDateTime(toStartOfHour(r.k_time), 'UTC') AS hour, toDate(r.k_time) AS ingested,
    quantilesTimingState(0.5, 0.9, 0.99)(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS ms,
    count() AS records, max(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS worst_ms
FROM trade_positions AS r
WHERE r.k_headers['caused_at'] != ''
GROUP BY producer, type, hour, ingested;

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_1h_of_trade_exits TO latency_1h AS
SELECT
    r.k_headers['producer'] AS producer, r.type AS type, toDateTime(toStartOfHour(r.k_time), 'UTC') AS hour, toDate(r.k_time) AS ingested,
    quantilesTimingState(0.5, 0.9, 0.99)(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS ms,
    count() AS records, max(greatest(toUnixTimestamp64Milli(r.k_time) - toInt64OrZero(r.k_headers['caused_at']), 0)) AS worst_ms
FROM trade_exits AS r
WHERE r.k_headers['caused_at'] != ''
GROUP BY producer, type, hour, ingested;
