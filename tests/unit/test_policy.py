"""The policy: the mission's numbers, and contradictions that cannot exist."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.policy import Execution, Exits, Models, Policy, Risk, Rung, Universe


def test_defaults_are_the_stated_numbers() -> None:
    policy = Policy()
    risk, exits = policy.risk, policy.exits
    assert (risk.margin_share, risk.margin_min, risk.margin_max, risk.leverage) == (D("0.03"), 100, 2000, 3)
    assert (risk.max_loss_share, risk.max_positions, risk.max_exposure, risk.cool_down_s) == (D("0.01"), 20, 2, 120)
    assert [(rung.distance, rung.share) for rung in exits.ladder] == [
        (D("0.015"), D("0.30")),
        (D("0.025"), D("0.30")),
        (D("0.040"), D("0.40")),
    ]
    assert (exits.stop_distance, policy.models.threshold, policy.execution.order_type) == (D("0.025"), 0.70, "MARKET")


@pytest.mark.parametrize(
    ("section", "fields", "word"),
    [
        (Risk, {"margin_min": 3000}, "above risk.margin_max"),
        (Risk, {"margin_share": "0.10"}, "less than or equal to 0.05"),
        (Risk, {"leverage": 31}, "less than or equal to 30"),
        (Risk, {"unheard": 1}, "Extra inputs"),
        (Exits, {"ladder": [{"distance": "0.01", "share": "0.6"}, {"distance": "0.02", "share": "0.6"}]}, "more than the position"),
        (Exits, {"ladder": [{"distance": "0.02", "share": "0.5"}, {"distance": "0.01", "share": "0.5"}]}, "must rise"),
        (Exits, {"stop_distance": 0}, "greater than 0"),
        (Exits, {"mode": "LEGACY"}, "LIVE"),
        (Execution, {"recv_window_ms": 60_000}, "less than or equal to 5000"),
        (Models, {"strategies": ["fallback"]}, "scripted"),
        (Universe, {"max_instruments": 101}, "less than or equal to 100"),
    ],
)
def test_what_cannot_hold_cannot_be_built(section: Any, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        section.model_validate(fields)


def test_a_leverage_that_is_liquidated_before_the_stop_is_no_policy() -> None:
    assert Policy(risk=Risk(leverage=22)).risk.leverage == 22
    with pytest.raises(ValidationError, match="at most 22"):
        Policy(risk=Risk(leverage=23))


def test_a_policy_survives_its_own_text_and_names_itself() -> None:
    policy = Policy(exits=Exits(ladder=[Rung(distance=D("0.01"), share=D(1))]))
    again = Policy.model_validate_json(policy.model_dump_json())
    assert again == policy
    assert again.digest == policy.digest != Policy().digest
