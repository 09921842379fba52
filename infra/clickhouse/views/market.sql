-- Every trade of the market on a row of its own, out of the frames in which they travel.
--   SELECT time, trade_id, price, quantity FROM market_trades_flat WHERE instrument = 'binance.usdm.BTCUSDT' ORDER BY trade_id DESC LIMIT 10
CREATE OR REPLACE VIEW market_trades_flat AS
SELECT
    instrument, first_id + n - 1 AS trade_id, time, price, quantity, maker = 1 AS buyer_maker, backfilled, source, k_partition, k_offset
FROM market_trades
ARRAY JOIN t AS time, p AS price, q AS quantity, m AS maker, arrayEnumerate(t) AS n;

-- Every mark of every instrument on a row of its own: mark, its high and low since the one before, index, funding rate, best bid and ask.
--   SELECT at, mark, funding_rate, next_funding_at FROM market_marks_flat WHERE instrument = 'binance.usdm.BTCUSDT' ORDER BY at DESC LIMIT 10
CREATE OR REPLACE VIEW market_marks_flat AS
SELECT
    mk.instrument AS instrument, at, mk.mark AS mark, mk.high AS high, mk.low AS low, mk.last AS last, mk.index AS index,
    mk.funding_rate AS funding_rate, mk.next_funding_at AS next_funding_at, mk.bid AS bid, mk.ask AS ask, source, k_partition, k_offset
FROM market_marks
ARRAY JOIN marks AS mk;

-- The newest mark of every instrument, of the last minute (wall time) that marks were written in.
--   SELECT instrument, mark, at FROM marks_latest ORDER BY instrument
CREATE OR REPLACE VIEW marks_latest AS
SELECT mk.instrument AS instrument, argMax(mk.mark, k_offset) AS mark, argMax(mk.bid, k_offset) AS bid, argMax(mk.ask, k_offset) AS ask, max(m.at) AS at
FROM market_marks AS m
ARRAY JOIN marks AS mk
WHERE k_time > (SELECT max(k_time) FROM market_marks) - INTERVAL 1 MINUTE
GROUP BY instrument;

-- Candles of one minute out of the trades themselves, for ever (the trades go after 30 days): longer ones by a GROUP BY, as in the
-- example. What `features` decided on are those of market_candles; trades = last_id - first_id + 1 unless one is missing or stands twice.
--   SELECT toStartOfInterval(open_at, INTERVAL 15 MINUTE) AS at, argMin(o, open_at), max(h), min(l), argMax(c, open_at), sum(volume) FROM candles WHERE instrument = 'binance.usdm.BTCUSDT' GROUP BY at ORDER BY at DESC LIMIT 10
CREATE OR REPLACE VIEW candles AS
SELECT
    instrument, open_at, argMinMerge(k.o) AS o, max(k.h) AS h, min(k.l) AS l, argMaxMerge(k.c) AS c, sum(k.volume) AS volume,
    sum(k.quote_volume) AS quote_volume, sum(k.taker_buy_volume) AS taker_buy_volume, sum(k.trades) AS trades, min(k.first_id) AS first_id,
    max(k.last_id) AS last_id
FROM candles_1m AS k
GROUP BY instrument, open_at;
