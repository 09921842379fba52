"""ClickHouse's HTTP interface over the embedded engine: clickhouse-connect, curl and any SQL tool connect as to a server.

    curl 127.0.0.1:18123 --data 'SELECT instrument, count() FROM trade_fills GROUP BY instrument'

Faithful in SQL, types, deduplication, wire formats, lz4/zstd/gzip, sessions, parameters and error codes. Not in: users and roles,
TLS, the native compression of `compress=1`, progress headers, cancelling, streamed results (an answer is whole or an error).
"""

from __future__ import annotations

import gzip
import json
import uuid
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import lz4.frame
import zstandard

from infra.clickhouse.engine import SESSION_S, Engine, EngineError

MAX_BODY = 256 * 1024 * 1024
SMALL = 1024
"""Bytes below which an answer is not worth compressing."""

_ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lambda data: bytes(lz4.frame.compress(data)),
    "zstd": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
    "gzip": lambda data: gzip.compress(data, compresslevel=1),
    "deflate": lambda data: zlib.compress(data, 1),
}


def _all_frames(data: bytes, decoder: Callable[[], Any]) -> bytes:
    """Clients send one frame a block: a decoder that stops at the first would lose the rest in silence."""
    parts = []
    while data:
        frame = decoder()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise EOFError("it ends in the middle")
        data = frame.unused_data or b""
    return b"".join(parts)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lambda data: _all_frames(data, lz4.frame.LZ4FrameDecompressor),
    "zstd": lambda data: _all_frames(data, lambda: zstandard.ZstdDecompressor().decompressobj()),
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}
_STATUS = {
    60: 404,
    81: 404,
    46: 404,
    36: 404,
    47: 404,
    62: 400,
    27: 400,
    53: 400,
    164: 403,
    497: 403,
    159: 408,
    202: 503,
    1003: 413,
}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_TYPES = {
    "JSON": "application/json",
    "JSONEachRow": "application/x-ndjson",
    "CSV": "text/csv",
    "TabSeparated": "text/tab-separated-values",
}


class Front(ThreadingHTTPServer):
    """Bound when it is made, so that a port in use is known before the engine is opened; serves when told."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Request)
        self.engine: Engine | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is no event."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "quantum-clickhouse"
    disable_nagle_algorithm = True
    timeout = 600
    server: Front

    def do_GET(self) -> None:
        self._answer(read_only=True)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(read_only=False)

    def _answer(self, read_only: bool) -> None:
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query, keep_blank_values=True))
        query_id = asked.get("query_id") or str(uuid.uuid4())
        try:
            body = self._body()
            self._refuse_strangers()
            if url.path in ("/ping", "/replicas_status"):
                return self._send(200, b"Ok.\n", {})
            if url.path not in ("", "/"):
                return self._send(404, b"There is no handle " + url.path.encode() + b"\n", {})
            statement = asked.get("query", "").encode()
            statement = statement + b"\n" + body if statement and body else statement or body
            if not statement:
                if read_only:
                    return self._send(200, b"Ok.\n", {})
                raise _refused(62, "Empty query", "SYNTAX_ERROR")
            self._run(statement, asked, query_id, read_only)
        except ConnectionError:
            self.close_connection = True
        except ValueError as error:  # numbers of the protocol that are none
            self.close_connection = True
            self._send(400, f"{error}\n".encode(), {})
        except EngineError as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Query-Id": query_id}
            self._send(_STATUS.get(error.code, 500), error.message.encode(errors="replace") + b"\n", headers)

    def _run(self, statement: bytes, asked: dict[str, str], query_id: str, read_only: bool) -> None:
        engine = self.server.engine
        assert engine is not None
        for name in ("compress", "decompress"):
            if asked.get(name) == "1":
                raise _refused(344, f"{name}=1 is not served: switch the driver's compression off", "SUPPORT_IS_DISABLED")
        answer = engine.run(
            statement,
            database=asked.get("database") or self.headers.get("X-ClickHouse-Database") or "",
            settings={name: value for name, value in asked.items() if not name.startswith("param_")},
            params={name[6:]: value for name, value in asked.items() if name.startswith("param_")},
            default_format=asked.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated",
            session=asked.get("session_id", ""),
            session_timeout_s=float(asked.get("session_timeout") or SESSION_S),
            read_only=read_only,
        )
        did = "written" if answer.inserted else "read"
        summary = {f"{did}_rows": str(answer.rows), f"{did}_bytes": str(answer.read_bytes), "elapsed_ns": str(answer.elapsed_ns)}
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Server-Display-Name": "quantum-trader",
            "X-ClickHouse-Summary": json.dumps(summary),
        }
        if answer.format:
            headers |= {"X-ClickHouse-Format": answer.format, "Content-Type": _TYPES.get(answer.format, "application/octet-stream")}
        body = answer.body
        if len(body) >= SMALL and asked.get("enable_http_compression") != "0":
            accepted = {part.split(";")[0].strip() for part in self.headers.get("Accept-Encoding", "").split(",")}
            encoding = next((name for name in _ENCODERS if name in accepted), None)
            if encoding:
                headers["Content-Encoding"] = encoding
                body = _ENCODERS[encoding](body)
        self._send(200, body, headers)

    def _refuse_strangers(self) -> None:
        """A web page that a person happens to look at may not ask this server anything."""
        origin = self.headers.get("Origin")
        if origin and origin != "null" and urlsplit(origin).hostname in _LOOPBACK:
            return
        if origin:
            raise _refused(497, f"Requests of {origin} are not served here", "ACCESS_DENIED")

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            data = self._chunks()
        else:
            size = int(self.headers.get("Content-Length") or 0)
            self._bound(size)
            data = self._exactly(size)
        encoding = self.headers.get("Content-Encoding", "").strip()
        if not data or encoding in ("", "identity"):
            return data
        if encoding not in _DECODERS:
            raise _refused(89, f"Compression {encoding} is none of {', '.join(_DECODERS)}", "UNKNOWN_COMPRESSION_METHOD")
        try:
            return _DECODERS[encoding](data)
        except (RuntimeError, OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise _refused(271, f"The body is no {encoding}: {error}", "CANNOT_DECOMPRESS") from error

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            line = self.rfile.readline(64)
            if not line.endswith(b"\n"):
                raise ConnectionError("the client is gone")
            size = int(line.split(b";")[0].strip(), 16)
            if not size:
                while self.rfile.readline(1024).strip():
                    pass
                return b"".join(parts)
            total += size
            self._bound(total)
            parts.append(self._exactly(size))
            self._exactly(2)

    def _exactly(self, size: int) -> bytes:
        """A client that dies in the middle has asked nothing: half a batch under the token of the whole would be lost rows."""
        data = self.rfile.read(size) if size else b""
        if len(data) < size:
            raise ConnectionError("the client is gone")
        return data

    def _bound(self, size: int) -> None:
        if size > MAX_BODY:
            self.close_connection = True
            raise _refused(1003, f"A body of more than {MAX_BODY} bytes: insert in smaller batches", "TOO_LARGE")

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in ({"Content-Type": "text/plain; charset=UTF-8"} | headers).items():
            self.send_header(name, value)
        head = b"".join(self._headers_buffer) + b"\r\n"  # one write: two would wait for an ack
        self._headers_buffer: list[bytes] = []
        self.wfile.write(head if self.command == "HEAD" else head + body)

    def log_message(self, format: str, *args: Any) -> None:
        """Errors go to the client, who knows what it asked."""


def _refused(code: int, words: str, name: str) -> EngineError:
    return EngineError(code, f"Code: {code}. DB::Exception: {words}. ({name})")
