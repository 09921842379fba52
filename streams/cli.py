"""`quantum`: the one command. Everything heavy is imported inside the command that needs it, so that --help is instant.

Exit codes: 0 done; 1 a bug (with a traceback in the log); 2 a mistake that the message explains (what, why, do);
3 the run's report or a check does not add up.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.errors import UserError

if TYPE_CHECKING:
    from infra.settings import Settings

MISTAKE = 2
DOES_NOT_ADD_UP = 3

app = typer.Typer(
    name="quantum",
    help="AI crypto trading as a street of Kafka topics: market, features, signals, risk, orders, exits, history.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
policy_app = typer.Typer(help="The one versioned policy: every number that decides.", rich_markup_mode=None, no_args_is_help=True)
model_app = typer.Typer(
    help="Versions of the model: which serves, which scores in the shadow, and whether they are what they claim to be.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
breaker_app = typer.Typer(
    help="What holds entries back by itself, and the emergency stop.", rich_markup_mode=None, no_args_is_help=True
)
config_app = typer.Typer(help="Settings: where things are.", rich_markup_mode=None, no_args_is_help=True)
venue_app = typer.Typer(help="What a venue must do for us.", rich_markup_mode=None, no_args_is_help=True)
history_app = typer.Typer(help="The history as a whole: copies of it.", rich_markup_mode=None, no_args_is_help=True)
exits_app = typer.Typer(help="How positions are left.", rich_markup_mode=None, no_args_is_help=True)
train_app = typer.Typer(help="Train models (needs the extra `train`, or `trees` for trees alone).", rich_markup_mode=None)
bench_app = typer.Typer(
    help="Measure. A bench that needs a stack starts its own on free ports and stops it.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(policy_app, name="policy")
app.add_typer(model_app, name="model")
app.add_typer(breaker_app, name="breaker")
app.add_typer(config_app, name="config")
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")
app.add_typer(venue_app, name="venue")
app.add_typer(exits_app, name="exits")
app.add_typer(history_app, name="history")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def settings(**overrides: Any) -> Settings:
    from infra.settings import load

    return load(**overrides)


def show(found: Any, as_json: bool, lines: list[str]) -> None:
    if as_json:
        print(json.dumps(found, default=str, indent=None))
    else:
        print("\n".join(lines))


@app.command()
def up(
    for_s: Annotated[
        float | None,
        typer.Option("--for", min=0, help="Stop so many wall seconds after the street is open; else run until Ctrl-C."),
    ] = None,
    market: Annotated[str | None, typer.Option(help="synthetic | ticks:PATH | candles:PATH")] = None,
    speed: Annotated[float | None, typer.Option(help="Market seconds per wall second; 300 = a 5-minute candle a second.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the synthetic market.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Wipe the run directory first.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the run's report here when it is drained.")] = None,
    policy: Annotated[Path | None, typer.Option(help="JSON file of the first policy of a fresh log.")] = None,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Any free ports; the first line sets them for other commands.")
    ] = False,
    without: Annotated[str, typer.Option(hidden=True, help="Leave these workers out, to see what notices.")] = "",
) -> None:
    """Start broker, ClickHouse, exchange and all workers; drain and stop them together."""
    from streams.up import Options, run

    overrides: dict[str, Any] = {"market": market, "speed": speed, "seed": seed, "policy_file": policy}
    if free_ports:
        overrides |= any_ports()
    chosen = settings(**overrides)
    if free_ports:
        ports = [f"QT_{name.upper()}={port}" for name, port in overrides.items() if name.endswith("_port")]
        print("export " + " ".join([*ports, f"QT_RUN_DIR={shlex.quote(str(chosen.run_dir.absolute()))}"]), flush=True)
    if not run(chosen, Options(for_s=for_s, fresh=fresh, report=report, without=frozenset(filter(None, without.split(","))))):
        raise typer.Exit(DOES_NOT_ADD_UP)


def any_ports() -> dict[str, int]:
    """Of a stack beside others."""
    from infra.ports import free_ports, free_row
    from schemas.topics import WORKERS

    names = ("kafka_port", "kafka_controller_port", "clickhouse_port", "exchange_port", "exchange_control_port")
    return dict(zip(names, free_ports(len(names)), strict=True)) | {"probe_port": free_row(len(WORKERS))}


@app.command()
def worker(name: Annotated[str, typer.Argument(help="One of the workers that `quantum up` starts.")]) -> None:
    """Run one worker in this process, as a container does."""
    from streams.worker import run_worker

    run_worker(name, settings())


@app.command()
def exchange() -> None:
    """Run the local exchange in this process, as a container does."""
    from streams.local_exchange import run

    raise typer.Exit(run(settings()))


@app.command()
def bootstrap(
    wait: Annotated[bool, typer.Option("--wait", help="Make nothing: return when another has made it all.")] = False,
    tables: Annotated[bool, typer.Option(help="With --wait: tables too, or topics alone.")] = True,
    patience: Annotated[float, typer.Option(min=0, help="Seconds for Kafka and ClickHouse to answer.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Topics on Kafka and tables in ClickHouse, for a stack that `quantum up` does not start; may be repeated."""
    from streams import bootstrap as street

    done = street.wait(settings(), patience, tables=tables) if wait else street.make(settings(), patience)
    made = [*(f"topic {name}" for name in done["created"]), *(f"migration {name}" for name in done["applied"])]
    show(done, as_json, [*made, f"{done['topics']} topics{' and their tables' if tables else ''} are there"])


@app.command()
def topics(as_json: Json = False, markdown: Annotated[bool, typer.Option("--markdown", help="The docs page.")] = False) -> None:
    """The topics: what is on them, who writes, who reads."""
    from streams.pages import topics_page, topics_rows

    if markdown:
        print(topics_page(), end="")
        return
    rows = topics_rows()
    show(
        {"topics": rows},
        as_json,
        [f"{row['name']:<24} {row['partitions']:>2}  {row['produced_by']:<10} -> {row['consumed_by']}" for row in rows],
    )


@app.command()
def features(
    as_json: Json = False, markdown: Annotated[bool, typer.Option("--markdown", help="The table of docs/features.md.")] = False
) -> None:
    """The features: names in order, formulas, warm-up."""
    from processors.features.catalogue import FEATURE_SET, feature_hash
    from streams.pages import features_rows, features_table

    if markdown:
        print(features_table(), end="")
        return
    rows = features_rows()
    show(
        {"feature_set": FEATURE_SET, "feature_hash": feature_hash(), "features": rows},
        as_json,
        [f"{row['place']:>2} {row['name']:<16} {row['formula']}" for row in rows],
    )


@app.command()
def status(as_json: Json = False) -> None:
    """What runs, how far it is, and whether every position is protected."""
    from streams.status import look, table

    seen = look(settings())
    show(seen, as_json, table(seen))


@app.command()
def positions(as_json: Json = False) -> None:
    """Open positions with their protection, from the log by SQL."""
    from streams.queries import text
    from streams.status import history_behind, open_positions

    rows = open_positions(settings())
    lines = [
        f"{row['instrument']:<24} {row['side']:<5} {text(row['quantity']):>14} @ {text(row['entry_price']):<12} "
        f"stop {text(row['stop_price'])}"
        for row in rows
    ]
    show({"positions": rows}, as_json, lines or ["no open position"])
    if behind := history_behind(settings()):
        print(f"history is {behind} records behind: this may be old; `quantum exits status` reads the log itself", file=sys.stderr)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A question in SQL, or the name of a view: its example.")] = "",
    where: Annotated[str, typer.Option(help="With a view: only these rows, all their columns.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="With a view: so many rows, all their columns.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="The views of the desk.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The docs page.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the history: one ClickHouse query, or a view of the desk by its name."""
    from streams.pages import views_page, views_rows
    from streams.queries import aligned, ask, ask_as, has_format, question

    if markdown:
        print(views_page(), end="")
        return
    if list_:
        rows = views_rows()
        show({"views": rows}, as_json, [f"{row['name']:<20} {row['about']}" for row in rows])
        return
    asked = question(query, where, limit)
    if not as_json and has_format(asked):
        print(ask_as(settings(), asked), end="")
        return
    columns, found = ask(settings(), asked)
    show({"columns": columns, "rows": found}, as_json, aligned(columns, found) if found else ["no rows"])


@app.command()
def doctor(
    as_json: Json = False,
    round_trip: Annotated[
        bool, typer.Option("--round-trip", help="Also send a heartbeat through Kafka and wait for its row in ClickHouse.")
    ] = False,
) -> None:
    """Check settings, Kafka, ClickHouse, the exchange and the model; names what is wrong and what to do."""
    from streams.doctor import examine

    checks = examine(settings(), round_trip=round_trip)
    show(
        {"ok": all(check["ok"] for check in checks), "checks": checks},
        as_json,
        [line for check in checks for line in _check_lines(check)],
    )
    if not all(check["ok"] for check in checks):
        raise typer.Exit(DOES_NOT_ADD_UP)


def _check_lines(check: dict[str, Any]) -> list[str]:
    if check["ok"]:
        return [f"ok   {check['name']}: {check['detail']}"]
    return [f"FAIL {check['name']}: {check['detail']}", f"     why: {check['why']}", f"     do:  {check['do']}"]


@app.command()
def stop(reason: Annotated[str, typer.Option(help="Why; stands in the audit.")] = "", as_json: Json = False) -> None:
    """Open nothing more, from now on. Anyone may; works without Kafka too. Positions keep their stops and exits."""
    from streams.brake_commands import stop as stop_all

    found = stop_all(settings(), reason)
    by_file = f"not by the stop file: {found['file_error']}" if found["file_error"] else f"stopped by {found['file']}"
    by_log = "stopped on the log" if found["log"] else f"not on the log: {found['log_error']}"
    show(found, as_json, [by_file, by_log, "`quantum resume` lifts it: QT_ADMIN_TOKEN must be set there, and where control runs"])


@app.command()
def resume(reason: Annotated[str, typer.Option(help="Why; stands in the audit.")], as_json: Json = False) -> None:
    """Let entries open again after a stop. Needs QT_ADMIN_TOKEN."""
    from streams.brake_commands import lines
    from streams.brake_commands import resume as resume_all

    found = resume_all(settings(), reason)
    show(found, as_json, lines(found) if found["accepted"] else [f"refused: {found['detail']}"])
    if not found["accepted"]:
        raise typer.Exit(MISTAKE)
    if found["stopped"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@app.command()
def close(
    symbol: Annotated[str, typer.Argument(help="As BTCUSDT.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every position.")] = False,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit.")] = "",
    as_json: Json = False,
) -> None:
    """Close a position at market, or all of them."""
    from streams.brake_commands import close as close_position

    if bool(symbol) == all_:
        why = "neither a symbol nor --all was given" if not all_ else "both were given"
        raise UserError("nothing is closed: a symbol, or all", why, "quantum close SYMBOL, or quantum close --all")
    found = close_position(settings(), "*" if all_ else symbol, reason)
    idle = found["accepted"] and not found["open"]
    show(found, as_json, [f"nothing is open there, as the log has it: {found['instrument']}" if idle else found["detail"]])
    if not found["accepted"]:
        raise typer.Exit(MISTAKE)


@breaker_app.command("status")
def breaker_status(as_json: Json = False) -> None:
    """The emergency stop and every breaker that has ever tripped: state, reason, evidence, since, from when it tries again."""
    from streams.brake_commands import lines, status

    found = status(settings())
    show(found, as_json, lines(found))


@breaker_app.command("reset")
def breaker_reset(
    reason: Annotated[str, typer.Option(help="Why; stands in the audit.")],
    symbol: Annotated[str, typer.Argument(help="As BTCUSDT; without one every breaker.")] = "*",
    override: Annotated[bool, typer.Option("--override", help="Close it at once, without a trial.")] = False,
    as_json: Json = False,
) -> None:
    """Let an open breaker try one entry now; closed when it is taken, open again when it fails. Needs QT_ADMIN_TOKEN."""
    from streams.brake_commands import lines, reset

    found = reset(settings(), symbol, reason, override=override)
    show(found, as_json, lines(found) if found["accepted"] else [f"refused: {found['detail']}"])
    if not found["accepted"]:
        raise typer.Exit(MISTAKE)


@policy_app.command("show")
def policy_show(as_json: Json = False) -> None:
    """The policy in force and its version."""
    from streams.commands import current_policy

    version, policy = current_policy(settings())
    dumped = policy.model_dump(mode="json")
    show({"version": version, "policy": dumped}, as_json, [f"version {version}", json.dumps(dumped, indent=2)])


@policy_app.command("first")
def policy_first(path: Annotated[Path, typer.Argument(help="JSON file of a policy.")]) -> None:
    """Make a file the first policy of a log that has none yet; where there is one, it stays."""
    from streams.commands import current_policy, first_policy

    first_policy(settings(), path)
    print(f"version {current_policy(settings())[0]} is in force")


@policy_app.command("set")
def policy_set(
    assignments: Annotated[list[str], typer.Argument(help="section.field=value, as in risk.leverage=2")],
    reason: Annotated[str, typer.Option(help="Why; stands in the audit.")] = "",
    expect: Annotated[int | None, typer.Option(help="Refuse when the version in force is another one.")] = None,
    as_json: Json = False,
) -> None:
    """Change the policy: all assignments together or none."""
    from streams.commands import set_policy

    done = set_policy(settings(), assignments, reason, expect)
    show(done, as_json, [done["detail"]])
    if not done["accepted"]:
        raise typer.Exit(MISTAKE)


@policy_app.command("history")
def policy_history(as_json: Json = False) -> None:
    """Every version with what changed, who changed it and why."""
    from streams.commands import policy_versions

    rows = policy_versions(settings())
    show(
        {"versions": rows},
        as_json,
        [f"{row['version']:>4} {row['at']} {row['actor']}: {', '.join(row['changed'])} {row['reason']}" for row in rows],
    )


Version = Annotated[str, typer.Argument(help="As `quantum model list` names it; `built-in`: the one that comes with the package.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit.")]


@model_app.command("list")
def model_list(as_json: Json = False) -> None:
    """The versions of the registry with their roles."""
    from streams.model_commands import versions

    found = versions(settings())
    lines = [
        f"{row['version']:<20} {','.join(row['roles']) or '-':<16} {','.join(row['members']) or '-':<32} {row['trained_on'] or '-'}"
        for row in found["versions"]
    ]
    if found["serving"] != found["active"]:
        lines.append(f"{found['active']} is to decide, {found['serving']} does: {found['refused']}")
    show(found, as_json, lines)


@model_app.command("show")
def model_show(version: Version, as_json: Json = False) -> None:
    """The manifest of a version: where it comes from and what it is worth."""
    from streams.model_commands import outline, told

    found = told(settings(), version)
    found = {key: value for key, value in found.items() if key != "golden"}
    show(found, as_json, outline(found))


@model_app.command("verify")
def model_verify(version: Version, as_json: Json = False) -> None:
    """Load a version as the worker does: signature, hashes, features, shape, golden rows."""
    from streams.model_commands import verified

    found = verified(settings(), version)
    show(found, as_json, [f"{version} is what it claims to be ({found['ms']} ms)"])


@model_app.command("promote")
def model_promote(version: Version, reason: Reason = "", as_json: Json = False) -> None:
    """Let a version serve from the next candle on; refused when it does not verify."""
    from schemas.operations import CommandKind

    _move_model(CommandKind.MODEL_PROMOTE, version, reason, as_json)


@model_app.command("rollback")
def model_rollback(reason: Reason = "", as_json: Json = False) -> None:
    """Let the previous version serve again: the worker still has it loaded."""
    from schemas.operations import CommandKind

    _move_model(CommandKind.MODEL_ROLLBACK, None, reason, as_json)


@model_app.command("shadow")
def model_shadow(
    version: Annotated[str, typer.Argument(help="A version, or `none`.")], reason: Reason = "", as_json: Json = False
) -> None:
    """Let a version score the live stream without deciding anything."""
    from schemas.operations import CommandKind

    _move_model(CommandKind.MODEL_SHADOW, None if version == "none" else version, reason, as_json)


def _move_model(kind: Any, version: str | None, reason: str, as_json: bool) -> None:
    from streams.model_commands import move

    done = move(settings(), kind, version, reason)
    lines = [done["detail"]]
    if done.get("serving"):
        lines.append(f"serving: {done['serving']}, shadow: {done['shadow'] or 'none'}")
    show(done, as_json, [*lines, *(f"refused: {why}" for why in done.get("refused", []))])
    if not done["accepted"]:
        raise typer.Exit(MISTAKE)
    if done["refused"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@config_app.command("show")
def config_show(
    origin: Annotated[bool, typer.Option("--origin", help="Where each value comes from.")] = False, as_json: Json = False
) -> None:
    """All settings; secrets are masked."""
    from infra.settings import origins

    chosen, found = settings(), origins()
    values = {
        name: {"value": _setting(getattr(chosen, name), found[name]), **({"origin": found[name]} if origin else {})}
        for name in type(chosen).model_fields
    }
    show(values, as_json, [f"{name:<22} {row['value']:<40} {row.get('origin', '')}".rstrip() for name, row in values.items()])


def _setting(value: Any, origin: str) -> str:
    """A secret shows whether it is set, and nothing else of it; an address comes without its password."""
    from infra.settings import shown

    if hasattr(value, "get_secret_value") and origin == "default":
        return "not set (good for the local exchange only)"
    return shown(str(value))


@train_app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Parquet or CSV of 5-minute candles.")] = None,
    from_clickhouse: Annotated[bool, typer.Option("--from-clickhouse", help="The candles of the history instead.")] = False,
    models: Annotated[str, typer.Option(help="Of lightgbm,xgboost,nhits,patchtst; empty: all that are installed.")] = "",
    symbols: Annotated[str, typer.Option(help="Only these of the file; empty: all.")] = "",
    folds: Annotated[int, typer.Option(min=2, help="Folds of the walk forward.")] = 5,
    trees: Annotated[int, typer.Option(min=1, help="Trees of each booster.")] = 200,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each network.")] = 6,
    stride: Annotated[int, typer.Option(min=1, help="Networks learn from every so many candles.")] = 3,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 7,
    cost_bp: Annotated[float, typer.Option(min=0, help="Cost of a round trip in basis points.")] = 10.0,
    parent: Annotated[str | None, typer.Option(help="The version that this one shall follow; stands in the manifest.")] = None,
    registry: Annotated[Path | None, typer.Option(help="Directory of versions; default: QT_MODEL_REGISTRY.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the page with the results here too.")] = None,
    as_json: Json = False,
) -> None:
    """Train the ensemble on real candles, judge it by a walk forward, and publish it signed when the graphs agree."""
    if context.invoked_subcommand is not None:
        return
    from streams.train import Wanted, run

    wanted = Wanted(
        data=data,
        from_clickhouse=from_clickhouse,
        models=tuple(filter(None, models.split(","))),
        symbols=tuple(filter(None, symbols.split(","))),
        folds=folds,
        trees=trees,
        epochs=epochs,
        stride=stride,
        seed=seed,
        cost_bp=cost_bp,
        parent=parent,
        report=report,
    )
    done = run(settings(model_registry=registry), wanted)
    show(
        done,
        as_json,
        done["verdict"] + [f"{key}: {done[key]}" for key in ("version", "published", "report", "parity_max", "seconds")],
    )
    if done["suspicions"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@train_app.command("seed")
def train_seed(
    out: Annotated[Path | None, typer.Option(help="Directory to write; default: the committed place.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Train again and compare the hash with the committed one.")] = False,
    as_json: Json = False,
) -> None:
    """Train the seed model on the synthetic market's history; the same code gives the same hash."""
    from streams.training import train_seed as train

    manifest = train(out, check=check)
    show(manifest, as_json, [f"{key}: {value}" for key, value in manifest.items() if not isinstance(value, list | dict)])


Copy = Annotated[str, typer.Argument(help="A name, or a destination in ClickHouse's words, as Disk('backups', 'nightly').")]
Replace = Annotated[bool, typer.Option("--replace", help="Drop what the database holds.")]


@history_app.command("backup")
def history_backup(
    name: Copy, base: Annotated[str, typer.Option(help="Only what has changed since that backup.")] = "", as_json: Json = False
) -> None:
    """A copy of the whole history, while everything runs."""
    from streams.history_copies import backup

    done = backup(settings(), name, base)
    show(done, as_json, [f"{name}: {done['rows']} rows, {done['bytes']} bytes in {done['files']} files, {done['seconds']} s"])


@history_app.command("restore")
def history_restore(name: Copy, replace: Replace = False, as_json: Json = False) -> None:
    """The history as it was in a backup; history must stand still, and reads the rest from Kafka when it starts."""
    from streams.history_copies import restore

    done = restore(settings(), name, replace)
    lines = [f"{done['rows']} rows are back in {done['seconds']} s; history will read {done['to_read']} records more"]
    show(done, as_json, lines + ([f"{done['lost']} records are lost: Kafka does not hold them any more"] if done["lost"] else []))


@history_app.command("rebuild")
def history_rebuild(replace: Replace = False, as_json: Json = False) -> None:
    """An empty history; history must stand still, and reads all that Kafka holds when it starts."""
    from streams.history_copies import rebuild

    done = rebuild(settings(), replace)
    show(done, as_json, [f"the tables are empty; history will read {done['to_read']} records"])


@exits_app.command("status")
def exits_status(as_json: Json = False) -> None:
    """The plan of every open position, by the log: its levels, its legs and why; shadows too."""
    from streams.exit_commands import lines, status

    rows = status(settings())
    show({"plans": rows}, as_json, lines(rows))


@exits_app.command("shadow")
def exits_shadow(as_json: Json = False) -> None:
    """Plans that were only recorded, beside those that ordered: the view exit_shadows, by profile."""
    from streams.queries import aligned, ask, question

    columns, found = ask(settings(), question("exit_shadows"))
    show({"columns": columns, "rows": found}, as_json, aligned(columns, found) if found else ["no shadow has ended yet"])


@exits_app.command("rules")
def exits_rules() -> None:
    """The rules of a plan in their precedence, as the table of docs/exits.md."""
    from processors.exits.rules import table

    print(table(), end="")


@bench_app.command("frames")
def bench_frames(as_json: Json = False) -> None:
    """Trades a second through the real features path, beside single messages and a bare loop."""
    from streams.bench.frames import run

    found = run()
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


@bench_app.command("features")
def bench_features(
    as_json: Json = False,
    symbols: Annotated[int, typer.Option(min=1)] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Candles to measure.")] = 60,
) -> None:
    """One candle of 100 symbols into all 49 features, beside TA-Lib, its streams, talipp and pandas (needs the extra `dev`)."""
    from streams.bench.features import run

    found = run(symbols, rounds)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


@bench_app.command("latency")
def bench_latency(
    as_json: Json = False,
    n: Annotated[int, typer.Option(help="Pairs to measure at least.")] = 1000,
    speed: Annotated[float, typer.Option(help="Of the market, 1 as it really is; 300 keeps two cores busy.")] = 1.0,
) -> None:
    """Mark to exit decision, and tick to candle, on the whole running stack."""
    from streams.bench.latency import run

    found = run(n, speed)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


@bench_app.command("decisions")
def bench_decisions(
    as_json: Json = False,
    symbols: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    candles: Annotated[int, typer.Option(min=1, help="Closes to measure.")] = 30,
    pace: Annotated[float, typer.Option(min=0.2, help="Wall seconds from close to close.")] = 2.0,
    model: Annotated[str, typer.Option(help="Version of the registry; empty: the built-in one.")] = "",
) -> None:
    """Close of a candle to the decisions on it, for 100 symbols, through the street's own workers."""
    from streams.bench.decisions import run

    found = run(symbols, candles, pace, model or None)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


@bench_app.command("state")
def bench_state(
    disturbances: Annotated[int, typer.Option(help="kill -9, freezes, joins and leaves.")] = 30,
    seed: int = 1,
    as_json: Json = False,
) -> None:
    """The state store under disturbance: every count must equal the source."""
    from streams.bench.state import run

    found = run(disturbances=disturbances, seed=seed)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])
    if not found["equal"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@bench_app.command("orders")
def bench_orders(as_json: Json = False) -> None:
    """What our order path costs over the bare client, and what the local exchange's engine does in a second."""
    from streams.bench.orders import run

    found = run()
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


@bench_app.command("exits")
def bench_exits(as_json: Json = False) -> None:
    """The join of exits in one worker with 1,000 plans: marks a second, mark to decision, stops moved, and what a kill -9
    leaves."""
    from streams.bench.exits import run

    found = run()
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])
    if not found["extremes_kept"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@bench_app.command("history")
def bench_history(
    as_json: Json = False,
    frames: Annotated[int, typer.Option(min=1000, help="Full frames to write.")] = 16_000,
    singles: Annotated[int, typer.Option(min=1000, help="Frames of one trade to write.")] = 60_000,
) -> None:
    """Rows a second of the history writer beside a bare insert loop, how soon a row is seen, and every view's time."""
    from streams.bench.history import run

    found = run(frames, singles)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


@bench_app.command("matrix")
def bench_matrix(
    true_times: Annotated[bool, typer.Option("--true-times", help="The real session, window and freeze; takes long.")] = False,
    only: Annotated[int, typer.Option(min=0, help="So many cases, drawn by --seed; 0: all.")] = 0,
    seed: int = 1,
    as_json: Json = False,
) -> None:
    """The order path: every boundary crossed with every fault, workers killed and frozen there."""
    from streams.bench.matrix.run import SCALED, run, sample

    say = (lambda line: None) if as_json else print
    found = run(sample(only, seed) if only else None, scale=1.0 if true_times else SCALED, say=say)
    failed = [f"FAIL {name}: {why}" for name, why in found["failed"].items()]
    show(found, as_json, [*failed, f"{found['passed']} of {found['of']}, {found['late']} entries too late for the scaled waits"])
    if found["failed"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@bench_app.command("scenarios")
def bench_scenarios(as_json: Json = False) -> None:
    """What exchanges do to those who hold positions, scenario by scenario, on real workers."""
    from streams.bench.scenarios.run import run, table

    found = run(say=lambda line: None)
    failed = [f"FAIL {name}: {why}" for name, why in found["failed"].items()]
    show(found, as_json, [*failed, table(found)])
    if found["failed"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@venue_app.command("check")
def venue_check(
    target: Annotated[str, typer.Option(help="local: an exchange of its own; testnet: needs a key.")] = "local",
    symbol: Annotated[str, typer.Option(help="The instrument to try it on.")] = "BTCUSDT",
    market: Annotated[str, typer.Option(help="usdm: perpetuals; spot.")] = "usdm",
    as_json: Json = False,
) -> None:
    """Try the acceptance list on a venue, with the client that trades."""
    from streams.venue_check import run

    found = run(settings(), target, symbol, market)
    lines = [f"{'pass' if i['ok'] else 'FAIL'} {i['number']:>2}. {i['about']}\n         {i['detail']}" for i in found["items"]]
    show(found, as_json, [*lines, f"{found['passed']} of {found['of']}"])
    if not found["ok"]:
        raise typer.Exit(DOES_NOT_ADD_UP)


@venue_app.command("list")
def venue_list(markdown: Annotated[bool, typer.Option("--markdown", help="The docs page.")] = False, as_json: Json = False) -> None:
    """The acceptance lists."""
    from streams import acceptance_spot
    from streams.acceptance import ITEMS, page

    spot = acceptance_spot.ITEMS
    if markdown:
        print(page(spot), end="")
        return
    lines = [*(f"{i.number:>2}. {i.about}" for i in ITEMS), "spot", *(f"{i.number:>2}. {i.about}" for i in spot)]
    show({"items": [i.about for i in ITEMS], "spot": [i.about for i in spot]}, as_json, lines)


@bench_app.command("forecasters")
def bench_forecasters(
    ett: Annotated[Path, typer.Option(help="ETTh1.csv")],
    models: Annotated[str, typer.Option(help="Of nhits,patchtst; empty: both.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    as_json: Json = False,
) -> None:
    """Our networks on the table of their papers: ETTh1, 96 hours ahead. Minutes; needs the extra `train`."""
    from streams.bench.forecasters import run

    found = run(ett, tuple(filter(None, models.split(","))), threads)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])
    if not all(mine["reached"] for mine in found.values() if isinstance(mine, dict)):
        raise typer.Exit(DOES_NOT_ADD_UP)


@bench_app.command("inference")
def bench_inference(as_json: Json = False, repeats: Annotated[int, typer.Option(min=10, help="Calls a figure.")] = 200) -> None:
    """The served graphs at 1, 10 and 100 rows, beside the libraries that trained their members."""
    from streams.bench.inference import run

    found = run(repeats)
    show(found, as_json, [f"{key}: {value}" for key, value in found.items()])


def main() -> None:
    try:
        app()
    except UserError as e:
        print(e, file=sys.stderr)
        raise SystemExit(MISTAKE) from None


if __name__ == "__main__":
    main()
