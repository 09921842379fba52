"""The two networks: they find what is in a window, start the same way twice, and say in a graph what they say in torch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed (make train-env)")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from processors.features.catalogue import NAMES  # noqa: E402
from processors.learning import dataset as ds  # noqa: E402
from processors.learning.ensemble import know_nothing  # noqa: E402
from processors.learning.graph import graph  # noqa: E402
from processors.learning.layers import Dropout  # noqa: E402
from processors.learning.members import Fitted, predict  # noqa: E402
from processors.learning.networks import NetworkMember  # noqa: E402
from processors.learning.nhits import NHiTS, Pace  # noqa: E402
from processors.learning.patchtst import PatchTST  # noqa: E402

BARS, SYMBOLS = 2_200, 2


@pytest.fixture(scope="module")
def data() -> ds.Dataset:
    """The drift of the next candles stands in one feature."""
    rng = np.random.default_rng(8)
    signal = np.repeat(rng.normal(size=(BARS // 20 + 1, SYMBOLS)), 20, axis=0)[:BARS]
    returns = 1e-3 * rng.normal(size=(BARS, SYMBOLS))
    returns[1:] += 8e-4 * signal[:-1]
    close = np.exp(np.cumsum(returns, axis=0))
    features = rng.normal(size=(BARS, SYMBOLS, len(NAMES))).astype(np.float32)
    features[:, :, 3] = signal
    features[:, :, ds.HV] = 1e-3
    return ds.labelled(ds.Market("made up", ["A", "B"], close, close, close, close, np.ones_like(close)), features)


@pytest.fixture(scope="module", params=["nhits", "patchtst"])
def fitted(request: pytest.FixtureRequest, data: ds.Dataset) -> Fitted:
    first, last = data.span
    member = NetworkMember(request.param, epochs=20, stride=1)
    return member.fit(data, data.rows(first, last - 500), 7, lambda share, word: None)


def test_a_network_finds_what_is_in_the_window(data: ds.Dataset, fitted: Fitted) -> None:
    _, last = data.span
    rows = data.rows(last - 400, last)
    said = predict(fitted, data, rows)
    assert said.shape == (len(rows), 2)
    assert np.corrcoef(said[:, 0], data.target[rows])[0, 1] > 0.2


def test_its_graph_says_the_same_for_any_number_of_rows(data: ds.Dataset, fitted: Fitted) -> None:
    features = data.features.shape[2]
    raw = graph([fitted], know_nothing(1, 1e-3), features, {}, windows=True)
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    for count in (1, 2, 37, 100):
        windows = data.windows(data.rows(*data.span)[:count])
        predictions, volatility = session.run(["predictions", "volatility"], {"window": windows})
        meant = fitted.predict(windows)
        np.testing.assert_allclose(predictions[:, 0], meant[:, 0], atol=1e-5)
        np.testing.assert_allclose(volatility, np.exp(meant[:, 1]) * 1e-3, atol=1e-5)


def test_two_networks_in_one_graph_standardise_the_window_once(data: ds.Dataset) -> None:
    rows = data.rows(700, 1_000)
    members = [NetworkMember(name, epochs=1).fit(data, rows, 3, lambda share, word: None) for name in ("nhits", "patchtst")]
    made = onnx.load_from_string(graph(members, know_nothing(2, 1e-3), len(NAMES), {}, windows=True)).graph
    means = [node.input[1] for node in made.node if node.op_type == "Sub" and node.input[0] == "window"]
    assert len(means) == 2
    assert len(set(means)) == 1


def test_the_same_seed_gives_the_same_network(data: ds.Dataset) -> None:
    rows = data.rows(700, 1_000)
    member = NetworkMember("patchtst", epochs=1, stride=2)
    a, b = (member.fit(data, rows, 3, lambda share, word: None) for _ in range(2))
    window = data.windows(rows[:5])
    np.testing.assert_array_equal(a.predict(window), b.predict(window))


def test_nhits_without_what_it_learnt_repeats_the_last_value() -> None:
    net = NHiTS(64, 12, paces=[Pace(4, 4), Pace(1, 1)], hidden=8)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    series = torch.arange(64.0).reshape(1, 64, 1)
    forecast, _ = net(series)
    np.testing.assert_allclose(forecast.detach(), 63.0)


def test_patchtst_follows_level_and_unit_of_its_window() -> None:
    torch.manual_seed(1)
    net = PatchTST(48, 8, 3, dropout=0.0).eval()
    x = torch.randn(2, 48, 3)
    with torch.inference_mode():
        a, b = net(x), net(1_000.0 * x + 50.0)
    assert a.shape == (2, 8, 3)
    np.testing.assert_allclose((b - 50.0) / 1_000.0, a, atol=1e-3)


def test_dropout_keeps_the_mean_and_rests_when_not_training() -> None:
    drop = Dropout(0.3)
    x = torch.ones(200, 200)
    torch.manual_seed(2)
    assert float(drop(x).mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(drop.eval()(x), x)
