"""Stream == batch, bit for bit: whatever peeks and restarts come between, the features of a history are one thing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.features.kernel import FeatureState, replay

PRICES = st.floats(min_value=1e-4, max_value=1e5)
MOVES = st.floats(min_value=-0.2, max_value=0.2)


@st.composite
def histories(draw: st.DrawFn) -> NDArray[np.float64]:
    """[5, bars] with gaps: flat candles without volume stand where nothing traded."""
    bars = draw(st.integers(1, 320))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    quiet = draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]))
    moves = np.where(rng.random(bars) < quiet, 0.0, rng.normal(0, draw(st.sampled_from([1e-5, 1e-3, 0.1])), bars))
    close = draw(PRICES) * np.exp(np.cumsum(moves))
    open_ = np.concatenate([close[:1], close[:-1]])
    wick = np.where(moves == 0.0, 0.0, np.abs(rng.normal(0, 1e-3, bars)))
    volume = np.where(moves == 0.0, 0.0, rng.lognormal(0, 2, bars))
    return np.stack([open_, np.maximum(open_, close) * (1 + wick), np.minimum(open_, close) * (1 - wick), close, volume])


@settings(deadline=None, max_examples=40)
@given(history=histories(), seed=st.integers(0, 2**32), moves=st.lists(MOVES, min_size=1, max_size=5))
def test_stream_equals_batch_whatever_restarts_and_peeks_come_between(
    history: NDArray[np.float64], seed: int, moves: list[float]
) -> None:
    batch = replay(*history)
    assert np.isfinite(batch).all()
    chance = np.random.default_rng(seed)
    state = FeatureState()
    for position, (o, h, l, c, v) in enumerate(history.T):  # noqa: E741
        for move in moves[: int(chance.integers(0, len(moves) + 1))]:
            price = c * (1 + move)
            state.peek(o, max(o, price), min(o, price), price, v * chance.random())
        if chance.random() < 0.1:
            state = FeatureState.from_bytes(state.to_bytes())
        np.testing.assert_array_equal(state.peek(o, h, l, c, v), batch[position])
        np.testing.assert_array_equal(state.step(o, h, l, c, v), batch[position])
        assert state.bars == position + 1
    whole = FeatureState()
    whole.replay(*history)
    assert whole.to_bytes() == state.to_bytes()
