"""The evaluation as one page of HTML: what the models are worth, fold by fold, before anyone trusts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from processors.features.catalogue import NAMES
from processors.learning import charts, evaluation, skill
from processors.learning.training import Trained
from processors.learning.walk import Judged

COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "rmse": ("RMSE", "of the return in deviations"),
    "mae": ("MAE", "of the same"),
    "r2_zero": ("R² vs zero", "1 - squared error / that of forecasting 0"),
    "ic": ("IC", "correlation with the return"),
    "ic_low": ("IC 5 %", "lower end of its 90 % interval, days drawn again"),
    "ic_high": ("IC 95 %", "upper end"),
    "rank_ic": ("rank IC", "of the ranks"),
    "hit_rate": ("hit rate", "share of right directions"),
    "hit_low": ("hit 5 %", "lower end of its 90 % interval"),
    "hit_high": ("hit 95 %", "upper end"),
    "top_bp": ("top decile bp", "mean return of following the largest tenth of forecasts"),
    "top_net_bp": ("less cost bp", "the same less the cost of a round trip"),
    "brier": ("Brier", "of the calibrated probability; 0.25 is knowing nothing"),
    "ece": ("ECE", "mean distance of confidence from hit rate"),
    "acted": ("acted", "share of rows whose expected edge is above the cost"),
    "acted_net_bp": ("acted net bp", "mean return of these less cost"),
    "vol_r2": ("vol R²", "of the log volatility against its mean"),
    "vol_rank_ic": ("vol rank IC", "of its ranks"),
}
STYLE: Final = """
:root{color-scheme:light dark}body{font:14px/1.45 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.6rem 0}th,td{padding:.15rem .5rem;text-align:right}
th{border-bottom:1px solid #8888}td:first-child,th:first-child{text-align:left}div.wide{overflow-x:auto}
svg text{font:11px system-ui,sans-serif;fill:currentColor}svg text.title{font-weight:600;font-size:13px}
svg .frame{fill:none;stroke:#8888}svg .grid{fill:none;stroke:#8888;stroke-dasharray:4 4}.bad{color:#c53030;font-weight:600}
"""


def page(trained: Trained) -> str:
    """A page that needs nothing beside itself."""
    manifest, results = trained.manifest, trained.results
    training = manifest["training"]
    found = [
        f"<h1>{manifest['version']}</h1><p>Trained on {_text(manifest['trained_on'])}, {training['rows']} rows of "
        f"{len(training['symbols'])} symbols; judged by a walk forward over {len(trained.found.folds)} folds in time, all symbols "
        f"together, purged by each label's reach and an embargo of {manifest['embargo_bars']} candles. What ensembles are worth "
        "is told with weights and calibration from earlier folds only.</p>",
        _verdict(trained),
        "<h2>All folds together</h2>",
        _table({name: mine.pooled for name, mine in results.items()}, COLUMNS),
        _volatility(trained),
        "<h2>Pictures</h2>",
        *_pictures(trained),
    ]
    for name, mine in results.items():
        rows = {f"fold {number + 1}": fold for number, fold in enumerate(mine.folds)}
        found += [f"<h2>{name}, fold by fold</h2>", _table(rows, COLUMNS)]
    notes = "".join(f"<li><b>{short}</b>: {_text(long)}</li>" for short, long in COLUMNS.values())
    found += ["<h2>Columns</h2>", f"<ul>{notes}</ul>"]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{manifest["version"]}</title><style>{STYLE}</style>'
    return head + "\n".join(found) + "\n</html>\n"


def verdict(trained: Trained) -> list[str]:
    """What there is to say, in sentences: direction, calibration, volatility."""
    mine = trained.results["ensemble"].pooled
    base = trained.baseline[0]
    known = mine["ic_low"] > 0.0
    words = [
        f"Direction: IC {mine['ic']:+.4f} (90 % interval {mine['ic_low']:+.4f} to {mine['ic_high']:+.4f}), hit rate "
        f"{mine['hit_rate']:.4f}, R2 against zero {mine['r2_zero']:+.4f}, top decile {mine['top_bp']:+.1f} bp before cost: "
        + ("better than nothing." if known else "no skill is shown."),
        f"Volatility of the next hour: R2 {mine['vol_r2']:.3f}, rank IC {mine['vol_rank_ic']:.3f}; hv_50 alone has "
        f"R2 {base['r2']:.3f}, rank IC {base['rank_ic']:.3f}.",
    ]
    if "ece" in mine:
        words.append(
            f"Probability: Brier {mine['brier']:.4f} (0.25 knows nothing), ECE {mine['ece']:.4f}; acts on {mine['acted']:.1%}."
        )
    return words


def _verdict(trained: Trained) -> str:
    bad = "".join(f'<p class="bad">Suspected leakage, not to be used: {_text(word)}</p>' for word in trained.suspicions)
    return bad + "".join(f"<p>{_text(word)}</p>" for word in verdict(trained))


def _pictures(trained: Trained) -> list[str]:
    names = [name for name in ("ensemble", "fast") if name in trained.results]
    later = trained.found.fold > 0
    reliability: dict[str, list[tuple[float, float]]] = {
        name: [(row["confidence"], row["hit_rate"]) for row in _reliability(trained.results[name], later)] for name in names
    }
    pictures = [charts.lines("Reliability: promised against came", reliability, x_label="confidence", diagonal=True, dots=True)]
    for voice in names:
        bars, gross, net = skill.equity(trained.results[voice].forecast)
        series = {
            "gross": list(zip(bars.tolist(), gross.tolist(), strict=True)),
            "less cost": list(zip(bars.tolist(), net.tolist(), strict=True)),
        }
        pictures.append(charts.lines(f"Top decile of {voice}: basis points, one trade after another", series, x_label="candle"))
    for name, gain in trained.found.importance.items():
        order = np.argsort(gain)[::-1][:15]
        pictures.append(charts.bars(f"What {name} looks at: share of gain", [(NAMES[i], float(gain[i])) for i in order]))
    return pictures


def _reliability(mine: Judged, rows: Any) -> list[dict[str, float]]:
    if mine.probability is None or not rows.any():
        return []
    return evaluation.reliability(mine.probability[rows], mine.forecast.forward[rows])


def _volatility(trained: Trained) -> str:
    rows = {f"fold {n}": fold for n, fold in enumerate(trained.baseline[1:], 1)} | {"all": trained.baseline[0]}
    columns = {"r2": ("R²", ""), "rmse": ("RMSE", ""), "rank_ic": ("rank IC", "")}
    return "<h2>Volatility by hv_50 alone, the figure to beat</h2>" + _table(rows, columns)


def _table(rows: Mapping[str, Mapping[str, float]], columns: Mapping[str, tuple[str, str]]) -> str:
    head = "".join(f'<th title="{_text(long)}">{short}</th>' for short, long in columns.values())
    lines = [f"<tr><td>{name}</td>{_cells(row, list(columns))}</tr>" for name, row in rows.items()]
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'


def _cells(row: Mapping[str, float], names: Sequence[str]) -> str:
    return "".join(f"<td>{row[name]:.4f}</td>" if name in row else "<td></td>" for name in names)


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
