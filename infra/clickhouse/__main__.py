"""`python -m infra.clickhouse --port 18123 --data-dir DIR [--fresh]`: the embedded ClickHouse as a process of its own.

Stops cleanly on SIGTERM and SIGINT; after `kill -9` the same directory opens again with every acknowledged row.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import IO

from infra.clickhouse.engine import Engine, EngineError
from infra.clickhouse.front import Front
from infra.errors import UserError

MARKER = "quantum-clickhouse"
DRAIN_S = 1.5
CANNOT = "the embedded ClickHouse cannot start"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="infra.clickhouse", description=__doc__)
    parser.add_argument("--port", type=int, default=18123)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--fresh", action="store_true", help="remove what the directory holds")
    args = parser.parse_args(argv)
    try:
        serve(args.host, args.port, args.data_dir.resolve(), args.fresh)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def serve(host: str, port: int, data_dir: Path, fresh: bool) -> None:
    """Blocks until SIGTERM or SIGINT. Raises UserError when it cannot start."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        front = Front((host, port))
    except OSError as error:
        do = f"stop what listens there (`ss -ltnp | grep {port}` names it), or set QT_CLICKHOUSE_PORT to another port"
        raise UserError(CANNOT, f"port {port} on {host}: {error.strerror}", do) from error
    with front, _claim(data_dir, fresh):
        engine = _open(data_dir)
        front.engine = engine
        server = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.1}, name="accept", daemon=True)
        server.start()
        sys.stdout.write(f"ClickHouse {engine.version} answers on http://{host}:{port}, data in {data_dir}\n")
        sys.stdout.flush()
        stopping.wait()
        front.shutdown()
        # statements in flight get a moment; the engine survives being cut off
        closing = threading.Thread(target=engine.close, daemon=True)
        closing.start()
        closing.join(DRAIN_S)
        sys.stdout.flush()
        os._exit(0)


def _claim(data_dir: Path, fresh: bool) -> IO[str]:
    """Our directory, ours alone: a foreign one is not touched, one in use not shared."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        marker = data_dir / MARKER
        if not marker.exists() and any(data_dir.iterdir()):
            raise UserError(CANNOT, f"{data_dir} holds something else", "name an empty directory, or empty this one yourself")
        held = marker.open("a+")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            do = "stop it (is another `quantum up` running?), or set QT_RUN_DIR to another folder"
            raise UserError(CANNOT, f"another ClickHouse uses {data_dir}", do) from error
        if fresh:
            shutil.rmtree(data_dir / "store", ignore_errors=True)
        return held
    except OSError as error:
        raise _disk(data_dir, error.errno, f"{error.strerror}: {error.filename or data_dir}") from error


def _open(data_dir: Path) -> Engine:
    try:
        return Engine(data_dir / "store")
    except ImportError as error:
        do = "install the extra: `pip install 'quantum-trader[embedded]'`, or set QT_CLICKHOUSE_URL to a ClickHouse that runs"
        raise UserError(CANNOT, f"its engine is not installed ({error})", do) from error
    except (EngineError, RuntimeError, OSError) as error:
        text = str(error)
        code = errno.ENOSPC if "No space left" in text else errno.EACCES if "ermission denied" in text else None
        raise _disk(data_dir, code, text.splitlines()[0][:400] if text else "the engine said nothing") from error


def _disk(data_dir: Path, code: int | None, why: str) -> UserError:
    match code:
        case errno.ENOSPC | errno.EDQUOT:
            return UserError(
                CANNOT, f"no space is left for {data_dir} ({why})", "free space there, or set QT_RUN_DIR to another disk"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.ENOTDIR | errno.EEXIST:
            return UserError(CANNOT, f"{data_dir} cannot be written ({why})", "set QT_RUN_DIR to a folder that you may write")
    return UserError(CANNOT, why, f"--fresh starts anew and history is written again from Kafka; the data is in {data_dir}")


if __name__ == "__main__":
    sys.exit(main())
