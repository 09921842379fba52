"""The ClickHouse engine in this process (chdb), asked statement by statement as its HTTP server would be.

One engine per data directory and process; each statement gets a handle of its own (0.1 ms), each session keeps one, so that
settings and temporary tables of one caller never reach another. Results are materialised; `CAPS` bound what they may take.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATABASE = "quantum"
CAPS = {"max_server_memory_usage": 1_500_000_000, "mark_cache_size": 67_108_864, "uncompressed_cache_size": 0}
"""Of the whole engine; its own defaults are 90 % of the machine and 5 GB of cache."""
BACKUPS = "backups"
"""Where `BACKUP ... TO File('name')` writes: a folder beside that of the engine."""
DEFAULTS = {"max_memory_usage": "1000000000", "max_result_bytes": "400000000", "max_threads": "2"}
"""Of every statement, unless the caller says otherwise."""
NOT_SETTINGS = frozenset(
    "query query_id database default_format session_id session_timeout session_check user password quota_key role "
    "buffer_size wait_end_of_query client_protocol_version compress decompress enable_http_compression stacktrace "
    "http_zlib_compression_level send_progress_in_http_headers http_headers_progress_interval_ms "
    "cancel_http_readonly_queries_on_client_close add_http_cors_header log_comment".split()
)
"""URL parameters that belong to the transport; the engine would refuse them or does not need them."""
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_CODE = re.compile(r"Code: (\d+)\.")
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^'\"]*)?;?\s*$", re.IGNORECASE)
_COMMENTS = re.compile(rb"\A(?:\s|--[^\n]*\n|/\*.*?\*/|\()*", re.DOTALL)
_INSERT = re.compile(rb"\A(\s*INSERT\s+INTO\s.*?)(\sSETTINGS\s.*?)?\sFORMAT\s+(\w+)[^\S\n]*(?:;?\n|\Z)", re.IGNORECASE | re.DOTALL)
_NOT_DATA = re.compile(rb"\b(SELECT|VALUES|INFILE)\b", re.IGNORECASE)
_NAMES = re.compile(rb"`[^`]*`|\"[^\"]*\"|\([^()]*\)")
"""Quoted names and the column list: a column may be called `values`."""
_ANSWERING = (b"SELECT", b"WITH", b"SHOW", b"DESC", b"EXISTS", b"EXPLAIN", b"CHECK", b"VALUES", b"FROM")
SESSION_S = 60.0
UNKNOWN_DATABASE = 81


class EngineError(Exception):
    """ClickHouse refused: its own code and words, e.g. 60 "Code: 60. DB::Exception: Unknown table ... (UNKNOWN_TABLE)"."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Answer:
    """`format` is empty for a statement that answers nothing."""

    body: bytes
    format: str
    inserted: bool
    rows: int
    read_bytes: int
    elapsed_ns: int


@dataclass(slots=True)
class _Session:
    handle: Any
    timeout_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    used: float = field(default_factory=time.monotonic)


class Engine:
    """Thread-safe. Raises RuntimeError or EngineError when the directory cannot be opened."""

    def __init__(self, path: Path) -> None:
        import chdb  # half a gigabyte of library: only the process that serves loads it

        backups = path.parent / BACKUPS
        backups.mkdir(exist_ok=True)
        options = "&".join(f"{name}={value}" for name, value in (CAPS | {"backups.allowed_path": f"{backups}/"}).items())
        self._chdb = chdb
        self._address = f"{path}?{options}"
        self._sessions: dict[str, _Session] = {}
        self._guard = threading.Lock()
        self._root = chdb.connect(self._address)  # keeps the engine alive between statements
        _ask(self._root, f"CREATE DATABASE IF NOT EXISTS {DATABASE}".encode())
        self.version = _ask(self._root, b"SELECT version()").bytes().decode().strip()

    def run(
        self,
        statement: bytes,
        *,
        database: str = "",
        settings: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        default_format: str = "TabSeparated",
        session: str = "",
        session_timeout_s: float = SESSION_S,
        read_only: bool = False,
    ) -> Answer:
        """One statement. Raises EngineError. A setting sent with a statement ends with it."""
        chosen = {name: value for name, value in (settings or {}).items() if name not in NOT_SETTINGS}
        if not session:
            handle = self._open()
            try:
                if not database:
                    _use_ours(handle)
                return _run(handle, statement, database, DEFAULTS | chosen, params, default_format, read_only)
            finally:
                handle.close()
        kept = self._session(session, session_timeout_s)
        if not kept.lock.acquire(blocking=False):
            raise EngineError(
                373, f"Code: 373. DB::Exception: Session {session} is locked by a concurrent client. (SESSION_IS_LOCKED)"
            )
        try:
            return _run(kept.handle, statement, database, chosen, params, default_format, False)
        finally:
            if chosen:
                _ask(kept.handle, f"SET {', '.join(f'{_setting_name(name)} = DEFAULT' for name in chosen)}".encode())
            kept.used = time.monotonic()
            kept.lock.release()

    def close(self) -> None:
        with self._guard:
            for session in self._sessions.values():
                session.handle.close()
            self._sessions.clear()
        self._root.close()

    def _open(self) -> Any:
        return self._chdb.connect(self._address)

    def _session(self, name: str, timeout_s: float) -> _Session:
        with self._guard:
            now = time.monotonic()
            for old, session in list(self._sessions.items()):
                if old != name and now - session.used > session.timeout_s and session.lock.acquire(blocking=False):
                    session.handle.close()
                    del self._sessions[old]
            if name not in self._sessions:
                handle = self._open()
                _use_ours(handle)
                _ask(handle, _set(DEFAULTS))
                self._sessions[name] = _Session(handle, timeout_s)
            return self._sessions[name]


def _use_ours(handle: Any) -> None:
    """Where nobody names a database. It may have been dropped, to be restored or made anew."""
    try:
        _ask(handle, f"USE {DATABASE}".encode())
    except EngineError as error:
        if error.code != UNKNOWN_DATABASE:
            raise


def _run(
    handle: Any,
    statement: bytes,
    database: str,
    settings: Mapping[str, str],
    params: Mapping[str, str] | None,
    default_format: str,
    read_only: bool,
) -> Answer:
    if database:
        _ask(handle, f"USE {_identifier(database)}".encode())
    if settings:
        _ask(handle, _set(settings))
    if read_only:
        _ask(handle, b"SET readonly = 2")
    found = _FORMAT.search(statement[-400:])
    word = statement[_COMMENTS.match(statement).end() :][:8].upper()  # type: ignore[union-attr]  # it matches nothing at least
    answers = word.startswith(_ANSWERING)
    chosen = found.group(1).decode() if found and answers else default_format
    insert = _INSERT.match(statement) if word.startswith(b"INSERT") else None
    if insert and not _NOT_DATA.search(_NAMES.sub(b" ", insert.group(1))):
        result = _insert(handle, insert, statement)
    else:
        result = _ask(handle, statement, chosen, params)
    body = result.bytes() or b""
    return Answer(
        body,
        chosen if answers or body else "",
        insert is not None,
        int(result.rows_read()),
        int(result.bytes_read()),
        int(result.elapsed() * 1e9),
    )


def _insert(handle: Any, head: re.Match[bytes], statement: bytes) -> Any:
    """The rows as a file that only memory holds: the engine's own inline parser stops at an empty line, binary data or not."""
    with _in_memory(memoryview(statement)[head.end() :]) as path:
        into, settings, fmt = head.group(1), head.group(2) or b"", head.group(3)
        return _ask(handle, into + b" FROM INFILE " + _quoted(path).encode() + settings + b" FORMAT " + fmt)


@contextmanager
def _in_memory(data: memoryview) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("insert"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as named:
            named.write(data)
            named.flush()
            yield named.name


def _ask(handle: Any, statement: bytes, fmt: str = "TabSeparated", params: Mapping[str, str] | None = None) -> Any:
    try:
        return handle.query(statement, fmt, params=dict(params or {}))
    except RuntimeError as error:  # chdb's own class derives from it
        raise engine_error(str(error)) from error


def engine_error(text: str) -> EngineError:
    start = text.find("Code: ")
    message = text[start:].strip() if start >= 0 else text.strip()
    found = _CODE.search(message)
    return EngineError(int(found.group(1)) if found else 1002, message)


def _setting_name(name: str) -> str:
    if not _NAME.match(name):
        raise EngineError(
            115, f"Code: 115. DB::Exception: Setting {name!r} is neither a builtin setting nor a name. (UNKNOWN_SETTING)"
        )
    return name


def _set(settings: Mapping[str, str]) -> bytes:
    return ("SET " + ", ".join(f"{_setting_name(name)} = {_quoted(value)}" for name, value in settings.items())).encode()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
