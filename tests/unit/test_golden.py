"""Golden messages: what was written once can be read for ever.

tests/golden/<type>.json holds one message of every type as it stands on the log. A field that is added later needs a default; the
old file stays as it is and a second one, <type>.2.json, shows the new field. A file is never changed.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from schemas import generate, hot, topics
from schemas.events import Event

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
TYPES: dict[str, type[Event]] = {event.type_name(): event for topic in topics.ALL for event in topic.events}
HOT = {model.__name__: getattr(hot, model.__name__) for model in generate.HOT}


def type_of(path: Path) -> str:
    return str(json.loads(path.read_text())["type"])


def hot_files() -> list[Path]:
    return [path for path in FILES if TYPES[type_of(path)].__name__ in HOT]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_message_is_read_and_written_again_without_loss(path: Path) -> None:
    model = TYPES[type_of(path)]
    event = model.model_validate_json(path.read_text())
    written = json.loads(event.encode())
    for name, value in json.loads(path.read_text()).items():
        assert still_there(value, written[name]), name
    assert model.model_validate_json(event.encode()) == event
    assert list(written)[:3] == ["event_id", "type", "at"]


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_type_has_a_golden_message_with_all_its_fields(name: str) -> None:
    found = [set(json.loads(path.read_text())) for path in FILES if type_of(path) == name]
    assert found, f"write tests/golden/{name}.json"
    missing = set(TYPES[name].model_fields) - set().union(*found)
    assert not missing, f"no golden message of {name} shows {sorted(missing)}: add {name}.{len(found) + 1}.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_unknown_field_of_a_newer_writer_does_no_harm(path: Path) -> None:
    model = TYPES[type_of(path)]
    newer = json.loads(path.read_text()) | {"a_field_of_the_future": {"deep": [1]}}
    event = model.model_validate_json(json.dumps(newer))
    assert event == model.model_validate_json(path.read_text())
    if model.__name__ in HOT:
        assert msgspec.json.decode(json.dumps(newer).encode(), type=HOT[model.__name__]).event_id == event.event_id


@pytest.mark.parametrize("path", hot_files(), ids=lambda path: path.stem)
def test_structs_of_the_hot_path_equal_their_models_field_by_field(path: Path) -> None:
    raw, model = path.read_bytes(), TYPES[type_of(path)]
    struct = msgspec.json.decode(raw, type=HOT[model.__name__])
    event = model.model_validate_json(raw)
    same(struct, event)
    assert model.model_validate_json(msgspec.json.encode(struct)) == event
    assert msgspec.json.decode(event.encode(), type=HOT[model.__name__]) == struct


def test_structs_have_the_fields_and_defaults_of_their_models() -> None:
    for model in generate.HOT:
        fields = {field.name: field for field in msgspec.structs.fields(HOT[model.__name__])}
        assert set(fields) == set(model.model_fields)
        for name, field in model.model_fields.items():
            if name != "type":
                assert fields[name].required == field.is_required(), f"{model.__name__}.{name}"


def still_there(old: Any, new: Any) -> bool:
    """A part of an event (a policy's section) may have got new fields, as the event itself may."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and still_there(value, new[name]) for name, value in old.items())
    return bool(old == new)


def same(struct: Any, model: Any) -> None:
    if isinstance(model, BaseModel):
        for name in type(model).model_fields:
            same(getattr(struct, name), getattr(model, name))
    elif isinstance(model, list):
        assert len(struct) == len(model)
        for one, other in zip(struct, model, strict=True):
            same(one, other)
    else:
        assert struct == model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_money_is_plain_digits_in_strings(path: Path) -> None:
    event = TYPES[type_of(path)].model_validate_json(path.read_text())
    written = json.loads(event.encode())
    for name in type(event).model_fields:
        if isinstance(getattr(event, name), Decimal):
            assert isinstance(written[name], str)
            assert "e" not in written[name].lower()
