-- Slippage: every order that was filled, beside the price that was meant: the decision's close for an entry, the level for a stop or a
-- take-profit, the last mark before the first fill for a close. worse_bps > 0 cost us; cost is that in quote currency.
--   SELECT purpose, count(), avg(worse_bps), quantile(0.95)(worse_bps), sum(cost) FROM slippage GROUP BY purpose
CREATE OR REPLACE VIEW slippage AS
SELECT
    f.account AS account, f.instrument AS instrument, f.at AS at, f.purpose AS purpose, f.side AS side, f.client_id AS client_id, f.quantity AS quantity,
    f.price AS price, multiIf(e.price > 0, e.price, o.price > 0, o.price, m.mark > 0, m.mark, NULL) AS meant,
    multiIf(e.price > 0, 'DECISION', o.price > 0, 'LEVEL', m.mark > 0, 'MARK', 'NONE') AS meant_by,
    if(f.side = 'BUY', 1, -1) * (f.price - meant) AS worse, worse / meant * 1e4 AS worse_bps, worse * f.quantity AS cost
FROM
(
    SELECT
        client_id, any(account) AS account, any(instrument) AS instrument, min(at) AS at, any(purpose) AS purpose, any(side) AS side,
        sum(toFloat64(t.quantity)) AS quantity, sum(toFloat64(t.price) * toFloat64(t.quantity)) / quantity AS price
    FROM (SELECT * FROM trade_fills WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY instrument, trade_id) AS t
    GROUP BY client_id
) AS f
LEFT JOIN (SELECT client_id, toFloat64(any(reference_price)) AS price FROM trade_entries WHERE k_error = '' GROUP BY client_id) AS e ON e.client_id = f.client_id
LEFT JOIN
(
    SELECT client_id, toFloat64(max(coalesce(nullIf(trigger_price, 0), nullIf(price, 0), 0))) AS price
    FROM trade_orders WHERE k_error = '' AND purpose IN ('STOP', 'TAKE_PROFIT') AND cancels IS NULL GROUP BY client_id
) AS o ON o.client_id = f.client_id
ASOF LEFT JOIN market_marks_flat AS m ON m.instrument = f.instrument AND m.at <= f.at;

-- Fees and funding of every position: what was paid for its fills (in the fee's own asset), how much of them as maker, and the funding that
-- fell due while it was open, from the recorded rate, mark and quantity (an estimate: the exchange's own booking is no event; > 0 is paid).
--   SELECT instrument, fees, fee_asset, maker_share, funding, fundings FROM fees_and_funding ORDER BY fees DESC LIMIT 20
CREATE OR REPLACE VIEW fees_and_funding AS
SELECT
    p.account AS account, p.instrument AS instrument, p.side AS side, p.position_id AS position_id, p.opened_at AS opened_at, p.status AS status,
    c.fees AS fees, c.fee_asset AS fee_asset, c.maker_share AS maker_share, c.fills AS fills, u.funding AS funding, u.fundings AS fundings
FROM positions AS p
LEFT JOIN
(
    SELECT
        o.position_id AS position_id, sum(fee) AS fees, arrayStringConcat(arraySort(groupUniqArray(toString(fee_asset))), '+') AS fee_asset,
        sumIf(toFloat64(price * quantity), maker) / sum(toFloat64(price * quantity)) AS maker_share, count() AS fills
    FROM (SELECT * FROM trade_fills WHERE k_error = '' ORDER BY k_offset LIMIT 1 BY instrument, trade_id) AS f
    INNER JOIN position_orders AS o ON o.client_id = f.client_id
    GROUP BY position_id
) AS c ON c.position_id = p.position_id
LEFT JOIN
(
    SELECT position_id, sum(paid) AS funding, count() AS fundings
    FROM
    (
        SELECT
            h.position_id AS position_id, d.due AS due, argMax(if(h.status = 'OPEN', toFloat64(h.quantity), 0), h.revision) AS held,
            held * any(d.mark) * any(d.rate) * if(any(h.side) = 'LONG', 1, -1) AS paid
        FROM
        (
            SELECT instrument, next_funding_at AS due, argMax(funding_rate, at) AS rate, argMax(mark, at) AS mark
            FROM market_marks_flat
            WHERE next_funding_at - at <= 600 AND at <= next_funding_at AND next_funding_at <= (SELECT max(at) FROM market_marks)
            GROUP BY instrument, due
        ) AS d
        INNER JOIN (SELECT * FROM trade_positions WHERE k_error = '' AND NOT k_tombstone) AS h ON h.instrument = d.instrument
        WHERE h.at <= d.due
        GROUP BY position_id, due
        HAVING held > 0
    )
    GROUP BY position_id
) AS u ON u.position_id = p.position_id;

-- Exposure by minute of venue time: what all open positions were worth at that minute's last mark (their entry price where there was none).
--   SELECT minute, positions, gross, net FROM exposure_by_minute ORDER BY minute DESC LIMIT 60
CREATE OR REPLACE VIEW exposure_by_minute AS
SELECT
    account, minute, count() AS positions, sumIf(worth, side = 'LONG') AS long, sumIf(worth, side = 'SHORT') AS short, long + short AS gross,
    long - short AS net
FROM
(
    SELECT h.account AS account, h.minute AS minute, h.side AS side, h.quantity * if(m.mark > 0, m.mark, h.entry_price) AS worth
    FROM
    (
        SELECT
            account, instrument, side, position_id, minute, argMax(if(r.status = 'OPEN', toFloat64(r.quantity), 0), r.revision) AS quantity,
            toFloat64(argMax(r.entry_price, r.revision)) AS entry_price
        FROM
        (
            SELECT
                account, instrument, side, position_id, revision, status, quantity, entry_price, at,
                leadInFrame(at, 1, greatest(at, assumeNotNull((SELECT max(at) FROM trade_positions)), assumeNotNull((SELECT max(at) FROM market_marks))))
                    OVER (PARTITION BY position_id ORDER BY revision ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS until,
                toUnixTimestamp(toStartOfMinute(at)) AS from_s,
                arrayJoin(range(from_s, toUInt32(toUnixTimestamp(if(status = 'OPEN', until, at))) + 1, 60)) AS second,
                toDateTime(second, 'UTC') AS minute
            FROM (SELECT * FROM trade_positions WHERE k_error = '' AND NOT k_tombstone ORDER BY k_offset LIMIT 1 BY position_id, revision)
        ) AS r
        GROUP BY account, instrument, side, position_id, minute
        HAVING quantity > 0
    ) AS h
    LEFT JOIN
    (
        SELECT instrument, toStartOfMinute(at) AS minute, argMax(mark, at) AS mark FROM market_marks_flat
        WHERE instrument IN (SELECT DISTINCT instrument FROM trade_positions) GROUP BY instrument, minute
    ) AS m ON m.instrument = h.instrument AND m.minute = h.minute
)
GROUP BY account, minute;

-- Drawdown by minute of venue time, from the equity that the exchange states: its peak until then, and how far below it (per cent).
--   SELECT minute, equity, peak, round(drawdown_pct, 3) FROM drawdown ORDER BY drawdown_pct DESC LIMIT 10
CREATE OR REPLACE VIEW drawdown AS
SELECT
    account, minute, equity, max(highest) OVER (PARTITION BY account ORDER BY minute ROWS UNBOUNDED PRECEDING) AS peak,
    if(peak > 0, (1 - toFloat64(lowest) / toFloat64(peak)) * 100, 0) AS drawdown_pct
FROM
(
    SELECT
        account, toStartOfMinute(at) AS minute, argMax(s.equity, k_offset) AS equity, max(s.equity) AS highest, min(s.equity) AS lowest
    FROM account_snapshots AS s WHERE k_error = '' GROUP BY account, minute
);

-- Profit of every day of venue time and instrument, out of an aggregate that counts a round trip once however often it stands in the log.
--   SELECT day, sum(trips), sum(wins), sum(net_pnl), sum(fees) FROM daily_pnl GROUP BY day ORDER BY day DESC
CREATE OR REPLACE VIEW daily_pnl AS
SELECT
    account, day, instrument, groupUniqArrayMerge(d.trips) AS closed, length(closed) AS trips, arrayCount(trip -> trip.2 > trip.3, closed) AS wins,
    arraySum(trip -> trip.2, closed) AS realized_pnl, arraySum(trip -> trip.3, closed) AS fees, realized_pnl - fees AS net_pnl
FROM pnl_1d AS d
GROUP BY account, day, instrument;

-- The account as risk sees it now, one row an account: equity, profit of the day and of seven days (venue time, closed trades after fees), what
-- is open and what it is worth, the deepest drawdown so far (per cent of its peak), and the emergency stop with its alarms.
--   SELECT account, equity, daily_pnl, weekly_pnl, open_positions, exposure, max_drawdown_pct, emergency_brake, alarms FROM risk_state
CREATE OR REPLACE VIEW risk_state AS
SELECT
    a.account AS account, a.at AS at, a.equity AS equity, a.unrealized_pnl AS unrealized_pnl, toDecimal128(c.daily, 12) AS daily_pnl,
    toDecimal128(c.weekly, 12) AS weekly_pnl, p.open_positions AS open_positions, p.exposure AS exposure, d.deepest AS max_drawdown_pct,
    r.stopped AS emergency_brake, r.alarms AS alarms
FROM
(
    SELECT account, at, equity, unrealized_pnl FROM account_snapshots WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY account
) AS a
LEFT JOIN
(
    SELECT
        account, sumIf(realized_pnl - fees, toDate(closed_at) = toDate(now_at)) AS daily, sumIf(realized_pnl - fees, closed_at > now_at - INTERVAL 7 DAY) AS weekly
    FROM round_trips
    CROSS JOIN (SELECT max(at) AS now_at FROM account_snapshots WHERE k_error = '') AS clock
    GROUP BY account
) AS c ON c.account = a.account
LEFT JOIN
(
    SELECT account, count() AS open_positions, sum(toFloat64(quantity) * ifNull(mark, toFloat64(entry_price))) AS exposure
    FROM positions WHERE status = 'OPEN' GROUP BY account
) AS p ON p.account = a.account
LEFT JOIN (SELECT account, max(drawdown_pct) AS deepest FROM drawdown GROUP BY account) AS d ON d.account = a.account
LEFT JOIN (SELECT * FROM risk_states WHERE k_error = '' ORDER BY k_offset DESC LIMIT 1 BY account) AS r ON r.account = a.account;
