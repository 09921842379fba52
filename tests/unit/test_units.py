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
