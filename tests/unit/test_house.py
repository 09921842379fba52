"""The house stays tidy by itself: imports one way, no clock or chance in decisions, every topic heard, docs true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.clickhouse import views
from infra.settings import Settings
from schemas import generate, topics
from streams.pages import SECTIONS, features_table, topics_page, views_page
from streams.worker import MODULES

ROOT = Path(__file__).parents[2]
LAYERS = ("schemas", "processors", "infra", "streams")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "processors": {"schemas", "processors"},
    "infra": {"schemas", "infra"},
    "streams": set(LAYERS),
}
PURE_LIBRARIES = {"numpy", "msgspec", "pydantic"}
LEARNING_LIBRARIES = PURE_LIBRARIES | {"lightgbm", "xgboost", "torch", "onnx", "onnxmltools", "onnxconverter_common", "sklearn"}
"""Offline training only: processors/learning is imported by no worker."""
STANDARD_FOR_DECISIONS = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "operator",
    "struct",
    "typing",
}


def files(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrow"
            yield node.module or ""


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(layer)
        for name in imports(path)
        if (top := name.split(".")[0]) in LAYERS and top not in MAY_IMPORT[layer]
    ]
    assert not wrong


def test_only_streams_knows_faust() -> None:
    wrong = [
        str(path)
        for layer in LAYERS[:3]
        for path in files(layer)
        for name in imports(path)
        if name.split(".")[0] in ("faust", "mode")
    ]
    assert not wrong


def test_decisions_use_no_clock_no_chance_and_no_world() -> None:
    wrong = []
    for path in files("processors"):
        learning = "learning" in path.parts
        allowed = STANDARD_FOR_DECISIONS | (LEARNING_LIBRARIES if learning else PURE_LIBRARIES) | {"schemas", "processors"}
        for name in imports(path):
            if name.split(".")[0] not in allowed and not (learning and name.split(".")[0] in ("pathlib", "importlib", "platform")):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_decisions_iterate_over_no_sets() -> None:
    wrong = []
    for path in files("processors"):
        for node in ast.walk(ast.parse(path.read_text())):
            over = getattr(node, "iter", None)
            called = isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id in ("set", "frozenset")
            if isinstance(over, ast.Set | ast.SetComp) or called:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not wrong


def test_broad_excepts_stand_only_at_outermost_loops() -> None:
    """One a file at most, and each says why it is there."""
    wrong = []
    for layer in LAYERS:
        for path in files(layer):
            lines = path.read_text().splitlines()
            broad = [n for n, line in enumerate(lines) if re.search(r"except (Base)?Exception|except:", line)]
            wrong += [f"{path.relative_to(ROOT)}:{n + 1}" for n in broad if "#" not in lines[n]]
    assert not wrong


def test_every_topic_is_written_and_read_by_a_worker_that_runs() -> None:
    people = {"cli"}
    for topic in topics.ALL:
        assert topic.produced_by, topic.name
        assert topic.consumed_by, topic.name
        for name in (*topic.produced_by, *topic.consumed_by):
            assert name in topics.WORKERS or name in people or name == "*", f"{topic.name}: {name}"
        assert len(topic.produced_by) == 1, f"{topic.name} has more than one writer"


def test_every_worker_of_the_registry_can_be_started() -> None:
    for module in MODULES.values():
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_stages_consume_and_produce_what_the_registry_says() -> None:
    from streams.worker import stages

    for name, stage in stages().items():
        declared = {topic.name for topic in topics.ALL if name in topic.consumed_by and topic not in topics.FOLLOWED}
        assert {topic.name for topic in stage.inputs} == declared, name
        written = {topic.name for topic in topics.ALL if name in topic.produced_by}
        assert {topic.name for topic in stage.outputs} == written, name


def test_topic_names_and_tables_are_one_to_one() -> None:
    for topic in topics.ALL:
        assert re.fullmatch(r"[a-z]+\.[a-z-]+", topic.name), topic.name
    assert len({topic.table for topic in topics.ALL}) == len(topics.ALL)


def test_the_topics_page_is_the_registry() -> None:
    assert (ROOT / "docs" / "topics.md").read_text() == topics_page(), "run: quantum topics --markdown > docs/topics.md"


def test_what_the_topics_page_links_to_is_there() -> None:
    page = topics_page()
    headings = {re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^#+ (.*)$", page, re.M)}
    anchors = set(re.findall(r'<a id="(\w+)">', views_page()))
    for target in re.findall(r"\]\(([^)]+)\)", page):
        path, _, anchor = target.partition("#")
        assert path == "sql.md" or not path or (ROOT / "docs" / path).exists(), target
        assert not anchor or anchor in (anchors if path else headings), target


def test_the_sql_page_is_what_the_views_declare() -> None:
    assert (ROOT / "docs" / "sql.md").read_text() == views_page(), "run: quantum sql --markdown > docs/sql.md"
    for view in views.declared():
        assert view.about, view.name
        assert view.example, view.name
        assert view.group in SECTIONS


def test_the_features_page_holds_the_catalogue() -> None:
    assert features_table() in (ROOT / "docs" / "features.md").read_text(), "put what `quantum features --markdown` prints there"


def test_hot_structs_are_generated_from_the_models() -> None:
    assert (ROOT / "schemas" / "hot.py").read_text() == generate.source(), "run: python -m schemas.generate"


def test_the_readme_names_every_worker_and_only_real_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    for worker in topics.WORKERS:
        assert worker in readme
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_setting_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name in Settings.model_fields:
        assert f"QT_{name.upper()}" in page, name


def test_project_files_name_no_host_of_a_package_registry() -> None:
    hosts = ["py" + "pi.org", "files.python" + "hosted", "repo1." + "maven", "registry." + "npmjs"]
    for path in [*ROOT.glob("lock/*"), *ROOT.glob("*.toml"), ROOT / "Makefile", *(p for layer in LAYERS for p in files(layer))]:
        text = path.read_text()
        assert not [host for host in hosts if host in text], path
