"""PUTs of large bodies, blocking, from where they lie: in threads, off the event loop.

asyncio's transports would copy such bodies and encrypt them on the loop; obstore hides its requests and knows neither
of the checksums that every store verifies. So this is HTTP/1.1 by the standard library: one request at a time on a
connection, each tried once, the caller told exactly what was answered.
"""

import contextlib
import http.client
import select
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from automq.s3stream.store.s3_checksums import HEADERS, Checksum, checksum_of, chunks_of
from automq.s3stream.store.s3_credentials import Credential
from automq.s3stream.store.s3_wire import PROGRESS_TIMEOUT_S, HttpAnswer, Transfer, Wire, headers_of

ANSWER_TIMEOUT_S: Final = 30.0
# Servers close idle connections after a time of their own; Amazon's after some 20 s.
CONNECTIONS_KEPT_MAX: Final = 4
ANSWER_BYTES_MAX: Final = 1 << 16
# How long a server may take to answer a request whose end it will never see.
HALF_ANSWER_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBody:
    """What was sent, and what came of it."""

    checksum: str
    """The header's value."""
    answer: HttpAnswer


class BodySender:
    """Sends PUTs to one endpoint. Methods block and may be called by several threads at once."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._idle: list[http.client.HTTPConnection] = []

    def put(
        self,
        transfer: Transfer,
        name: str,
        body: Sequence[memoryview],
        *,
        credential: Credential,
        checksum: Checksum,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> SentBody:
        """One request, and its answer. Raises OSError or http.client.HTTPException when there is none."""
        size = sum(len(buffer) for buffer in body)
        value = checksum_of(checksum, body)
        checked = {**headers, HEADERS[checksum]: value}
        target, signed = self._wire.sign("PUT", name, credential=credential, query=query, headers=checked)
        connection = self._take()
        try:
            self._wire.begin(connection, transfer, "PUT", target, {**signed, "Content-Length": str(size)})
            failure = None
            try:
                for chunk in chunks_of(body):
                    connection.sock.sendall(chunk)
                    transfer.sent_bytes += len(chunk)
            except OSError as error:
                # It may have answered before it closed: a refusal that needed no body.
                failure = error
            try:
                answer, is_last = _read_answer(connection)
            except (OSError, http.client.HTTPException) as error:
                raise failure or error from None
        except BaseException:
            connection.close()
            raise
        if is_last or failure is not None or len(self._idle) >= CONNECTIONS_KEPT_MAX:
            connection.close()
        else:
            self._idle.append(connection)
        return SentBody(checksum=value, answer=answer)

    def put_half(
        self,
        name: str,
        body: bytes,
        *,
        credential: Credential,
        checksum: Checksum,
        headers: Mapping[str, str],
    ) -> None:
        """As a process does that dies while it writes: half of `body`, then the connection's end."""
        checked = {**headers, HEADERS[checksum]: checksum_of(checksum, [body])}
        target, signed = self._wire.sign("PUT", name, credential=credential, query={}, headers=checked)
        connection = self._wire.connect()
        try:
            self._wire.begin(connection, Transfer(), "PUT", target, {**signed, "Content-Length": str(len(body))})
            connection.sock.sendall(body[: len(body) // 2])
            connection.sock.settimeout(HALF_ANSWER_S)
            with contextlib.suppress(OSError):
                if not self._wire.is_tls:
                    connection.sock.shutdown(socket.SHUT_WR)
                    connection.sock.recv(ANSWER_BYTES_MAX)
        finally:
            connection.close()

    def close(self) -> None:
        """End the connections that are kept. Idempotent."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> http.client.HTTPConnection:
        """A connection that its server has not closed meanwhile."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            if not poll.poll(0):
                connection.sock.settimeout(PROGRESS_TIMEOUT_S)
                return connection
            # Nothing was asked: it can only be the connection's end.
            connection.close()
        return self._wire.connect()


def _read_answer(connection: http.client.HTTPConnection) -> tuple[HttpAnswer, bool]:
    """The answer, and whether the connection ends with it."""
    connection.sock.settimeout(ANSWER_TIMEOUT_S)
    response = connection.getresponse()
    body = response.read(ANSWER_BYTES_MAX)
    answer = HttpAnswer(status=response.status, headers=headers_of(response), body=body)
    return answer, response.will_close or not response.isclosed()
