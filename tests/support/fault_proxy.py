"""An HTTP proxy between an S3 client and its server that answers as real stores do on bad days.

No local server ever answers 409, loses an answer or is slow on demand. Faults are queued; each request that matches
takes the first one. What the faults are:

    CONFLICT   409 ConditionalRequestConflict, the request is not forwarded
    SLOW_DOWN  503, not forwarded
    DROPPED    the connection is closed, the request not forwarded
    LOST       the request is forwarded, its answer thrown away, the connection closed
    HALF       the request is forwarded, half of the answer's body sent, the connection closed
    NOT_S3     404 with a page of somebody else's, not forwarded
    EXPIRED    400 ExpiredToken, not forwarded
    GONE       404 NoSuchKey, not forwarded: what some servers say to a delete of a missing key
    DAMAGED    a bit of the body is flipped on its way; the server compares the checksum and refuses
    EMPTY_PAGE a page of a listing without a key that says that more follow
    EMPTY_LAST the same without a token to go on with

A `Reply` is any refusal: its status and code. A `Result` is any success.
"""

import asyncio
import base64
import contextlib
import enum
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import crc32c

LINE_BYTES_MAX = 1 << 16


class Fault(enum.Enum):
    """What happens to one request."""

    CONFLICT = "409 Conflict"
    SLOW_DOWN = "503 Service Unavailable"
    DROPPED = "dropped"
    LOST = "lost"
    HALF = "half"
    NOT_S3 = "404 Not Found"
    EXPIRED = "400 Bad Request"
    GONE = "404 Gone"
    DAMAGED = "400 Damaged"
    EMPTY_PAGE = "empty page"
    EMPTY_LAST = "empty page without a token"


@dataclass(frozen=True, slots=True)
class Reply:
    """A refusal of any kind; without a code, it has no body."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Result:
    """A success with a body of the test's own, not forwarded."""

    xml: str


Trouble = Fault | Reply | Result

_ERRORS = {
    Fault.CONFLICT: "ConditionalRequestConflict",
    Fault.SLOW_DOWN: "SlowDown",
    Fault.EXPIRED: "ExpiredToken",
    Fault.GONE: "NoSuchKey",
    Fault.DAMAGED: "BadDigest",
}
_TOKEN = "made-up"
FORWARDED = (Fault.LOST, Fault.HALF)


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request, and what became of it."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    """Names in small letters."""
    fault: Trouble | None
    status: int = 0
    """Of the answer that was sent; 0 for none."""


@dataclass(slots=True)
class Message:
    """A request or an answer, read whole."""

    head: bytes
    body: bytes

    @property
    def start(self) -> list[str]:
        """The words of the first line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")

    @property
    def headers(self) -> dict[str, str]:
        """Names in small letters."""
        lines = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.strip().lower(): value.strip() for name, _, value in lines}


class FaultProxy:
    """Listens on `endpoint`, forwards to one server."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = parts.hostname, parts.port
        self._faults: deque[tuple[str, str, Trouble]] = deque()
        self._connections: dict[asyncio.StreamWriter, asyncio.Event] = {}
        self._held: tuple[str, asyncio.Event, asyncio.Event] | None = None
        self.seen: list[Seen] = []
        self.endpoint = ""

    def expect(self, *faults: Trouble, method: str = "PUT", part: str = "") -> None:
        """The next requests of `method` whose target contains `part` meet these faults, one each."""
        self._faults.extend((method, part, fault) for fault in faults)

    def hold(self, *, part: str, until: asyncio.Event, arrived: asyncio.Event) -> None:
        """Requests whose target contains `part` wait for `until` before they are answered; `arrived` tells of them."""
        self._held = part, until, arrived

    def forget(self) -> None:
        """What was expected and did not come is not expected any more."""
        self._faults.clear()

    @property
    def puts(self) -> list[Seen]:
        """The PUTs so far."""
        return [seen for seen in self.seen if seen.method == "PUT"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        ended = asyncio.Event()
        self._connections[writer] = ended
        try:
            while (request := await _read_message(reader, writer)) is not None:
                if not await self._answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await _close(writer)
            del self._connections[writer]
            ended.set()

    async def close(self) -> None:
        """End every connection."""
        if self._held is not None:
            self._held[1].set()
        for writer, ended in list(self._connections.items()):
            writer.close()
            await ended.wait()

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        method, path, _ = request.start
        fault = self._take(method, path)
        seen = Seen(method=method, path=path, body=request.body, headers=request.headers, fault=fault)
        self.seen.append(seen)
        if self._held is not None and self._held[0] in path:
            _, until, arrived = self._held
            arrived.set()
            await until.wait()
        if f"continuation-token={_TOKEN}" in path:
            request.head = request.head.replace(f"continuation-token={_TOKEN}".encode(), b"x=y", 1)
        answer = await self._forward(request) if fault is None or fault in FORWARDED else None
        match fault:
            case None:
                assert answer is not None
                seen.status = int(answer.start[1])
                writer.write(answer.head + answer.body)
            case Fault.HALF:
                assert answer is not None
                writer.write(answer.head + answer.body[: len(answer.body) // 2])
            case Fault.DROPPED | Fault.LOST:
                return False
            case Fault.NOT_S3:
                page = b"<html>nothing here</html>"
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
            case Fault.EMPTY_PAGE | Fault.EMPTY_LAST:
                token = _TOKEN if fault is Fault.EMPTY_PAGE else ""
                writer.write(_xml("200 OK", _EMPTY_PAGE.format(token=token)))
            case Reply(status, code):
                seen.status = status
                writer.write(_xml(f"{status} Reply", _ERROR.format(code=code) if code else ""))
            case Result(xml):
                writer.write(_xml("200 OK", xml))
            case Fault.DAMAGED:
                seen.status = 400
                assert request.headers["x-amz-checksum-crc32c"] == _crc32c(request.body)
                writer.write(_xml(fault.value, _ERROR.format(code=_ERRORS[fault])))
            case _:
                seen.status = int(fault.value[:3])
                writer.write(_xml(fault.value, _ERROR.format(code=_ERRORS[fault])))
        await writer.drain()
        return fault is not Fault.HALF

    def _take(self, method: str, path: str) -> Trouble | None:
        for position, (wanted, part, fault) in enumerate(self._faults):
            if wanted == method and part in path:
                del self._faults[position]
                return fault
        return None

    async def _forward(self, request: Message) -> Message:
        reader, writer = await asyncio.open_connection(*self._target, limit=LINE_BYTES_MAX)
        try:
            head = b"\r\n".join(
                line
                for line in request.head.split(b"\r\n")
                if not line.lower().startswith((b"expect:", b"connection:"))
            )
            writer.write(head[:-4] + b"\r\nConnection: close\r\n\r\n" + request.body)
            answer = await _read_message(reader, None, without_body=request.start[0] == "HEAD")
            assert answer is not None
            return answer
        finally:
            await _close(writer)


_ERROR = "<Error><Code>{code}</Code><Message>injected</Message></Error>"
_EMPTY_PAGE = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount>'
    "<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
)


def _xml(status: str, text: str) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _crc32c(body: bytes) -> str:
    return base64.b64encode(crc32c.crc32c(body).to_bytes(4, "big")).decode()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _read_message(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, *, without_body: bool = False
) -> Message | None:
    """The next message; None at the end. A client that asks whether to go on is told so through `writer`."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = Message(head, b"").headers
    if writer is not None and headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if without_body:
        return Message(head, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        raise AssertionError("the proxy does not speak chunked transfer")
    return Message(head, await reader.readexactly(int(headers.get("content-length", "0"))))


@contextlib.asynccontextmanager
async def run_fault_proxy(target: str) -> AsyncIterator[FaultProxy]:
    """A proxy before the server at `target`, until the end of the block."""
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=LINE_BYTES_MAX)
    host, port = server.sockets[0].getsockname()
    proxy.endpoint = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
