"""`quantum train` from candles to a version that loads: from a file, and from the history in ClickHouse."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("xgboost", reason="the extra `trees` is not installed")
pytest.importorskip("onnxmltools", reason="the extra `trees` is not installed")

from infra import registry
from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.clickhouse.migrate import migrate
from infra.clickhouse.rows import Record
from infra.clickhouse.writer import Writer
from infra.errors import UserError
from infra.ports import free_port
from infra.settings import Settings
from infra.venue.local.market import synthetic
from processors.features.catalogue import feature_hash
from schemas import topics
from schemas.market import Candle
from schemas.units import Source
from streams import train
from streams.candle_data import STEP_MS, from_clickhouse

ROOT = Path(__file__).parents[2]
NOW = int(time.time() * 1000)
SMALL = {"models": ("lightgbm", "xgboost"), "trees": 5, "folds": 2}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = synthetic.candles(11, ("BTCUSDT", "ETHUSDT"), 1_300)
    columns = made.floats()
    lines = [
        f"{symbol.name},{made.open_t[i]},{','.join(str(float(column[i, place])) for column in columns)}"
        for place, symbol in enumerate(made.symbols)
        for i in range(len(made))
    ]
    found = tmp_path_factory.mktemp("candles") / "candles.csv"
    found.write_text("\n".join(["symbol,open_time,open,high,low,close,volume", *lines, ""]))
    return found


def test_candles_become_a_version_that_loads(file: Path, tmp_path: Path) -> None:
    settings = Settings(model_registry=tmp_path / "models")
    done = train.run(settings, train.Wanted(data=file, report=tmp_path / "page" / "r.html", **SMALL))  # type: ignore[arg-type]
    assert done["parity_max"] <= 1e-5
    model = registry.load(Path(done["published"]), settings.model_key.get_secret_value(), feature_hash())
    assert model.version == done["version"]
    page = (tmp_path / "page" / "r.html").read_text()
    assert page == (Path(done["published"]) / "report.html").read_text()
    for word in ("Reliability", "Top decile", "What lightgbm looks at", "fold 2", "R² vs zero"):
        assert word in page
    assert len(done["verdict"]) == 3


def test_mistakes_are_told_in_words(file: Path, tmp_path: Path) -> None:
    settings = Settings(model_registry=tmp_path)
    for wanted, word in (
        (train.Wanted(), "nothing to train on"),
        (train.Wanted(data=file, from_clickhouse=True), "two sources"),
        (train.Wanted(data=tmp_path / "none.csv"), "no such file"),
        (train.Wanted(data=file, models=("lightgbm",), folds=9), "too few"),
    ):
        with pytest.raises(UserError, match=word):
            train.run(settings, wanted)
    assert registry.versions(tmp_path) == []


def test_the_history_in_clickhouse_gives_each_candle_once(tmp_path: Path) -> None:
    server = EmbeddedClickHouse(tmp_path / "data", free_port())
    server.start()
    try:
        server.wait_ready()
        migrate(server.url, "quantum")
        settings = Settings(clickhouse_url=server.url)
        with pytest.raises(UserError, match="no 5-minute candles"):
            from_clickhouse(settings)
        writer = Writer(server.url, "quantum", topics.ALL)
        for instrument in ("binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"):
            events = [candle(instrument, number) for number in range(40)]
            twice = [Record(0, n, NOW, instrument.encode(), event.encode(), ()) for n, event in enumerate([*events, *events])]
            assert writer.insert("market.candles", twice, instrument) == []
        found = from_clickhouse(settings)
    finally:
        server.stop()
    assert found.symbols == ["binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"]
    assert found.c[:, 0].tolist() == [101.0 + n for n in range(40)]
    assert found.traded is None


def candle(instrument: str, number: int) -> Candle:
    opened = synthetic.START_T + number * STEP_MS
    return Candle(
        event_id=f"{instrument}-{number}",
        at=opened + STEP_MS,
        instrument=instrument,
        interval="5m",
        open_at=opened,
        o=100.0 + number,
        h=102.0 + number,
        l=99.0 + number,
        c=101.0 + number,
        v=1.0,
        quote_volume=100.0,
        taker_buy_volume=0.5,
        trades=1,
        first_id=number,
        last_id=number,
        flat=False,
        backfilled=False,
        source=Source.SYNTHETIC,
    )


def test_loading_a_version_needs_no_training_library() -> None:
    names = ("lightgbm", "xgboost", "torch", "onnx", "onnxmltools", "sklearn", "pandas")
    code = f"import sys, infra.registry; print([n for n in {names!r} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `train` is not installed (make train-env)")
@pytest.mark.parametrize("name", ["nhits"])
def test_a_network_comes_near_its_paper(name: str, shared_data: Path) -> None:
    """PatchTST takes ten minutes and is measured by hand: quantum bench forecasters."""
    ett = shared_data / "ett" / "ETTh1.csv"
    if not ett.is_file():
        pytest.skip(f"no {ett}")
    command = [sys.executable, "-m", "streams.cli", "bench", "forecasters", "--ett", str(ett), "--models", name, "--json"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)[name]["reached"]
