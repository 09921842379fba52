"""What money may be."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.policy import Policy
from schemas.units import Money

money = TypeAdapter(Money)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1E+999999", "1E-999999", "0E-999999", "0E+999999", "9" * 61])
def test_money_is_finite_and_short_when_written_out(text: str) -> None:
    with pytest.raises(ValidationError):
        money.validate_python(Decimal(text))


@pytest.mark.parametrize("text", ["0", "-0.00000001", "123456789012345.123456789012", "1E+20"])
def test_money_travels_without_an_exponent(text: str) -> None:
    written = money.dump_python(money.validate_python(Decimal(text)))
    assert "E" not in written
    assert Decimal(written) == Decimal(text)


def test_a_policy_with_an_absurd_number_is_refused_when_it_is_built() -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({"risk": {"maintenance_margin_rate": "1E+999999"}})


@pytest.mark.parametrize(
    "absurd",
    [
        {"exits": {"ladder": [{"distance": "1.5", "share": "1"}]}},
        {"exits": {"break_even_margin": "1"}},
        {"exits": {"grace_s": 1e308}},
        {"execution": {"max_slippage": "1"}},
    ],
)
def test_a_policy_that_would_put_a_level_below_zero_is_refused(absurd: dict[str, object]) -> None:
    """1.5 typed for 1.5 %: a short's take-profit would lie below zero, and its plan could not be made."""
    with pytest.raises(ValidationError):
        Policy.model_validate(absurd)
