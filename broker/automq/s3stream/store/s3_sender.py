"""PUTs of large bodies, blocking, from where they lie: in threads, off the event loop.

asyncio's transports would copy such bodies and encrypt them on the loop; obstore hides its requests and knows neither
of the checksums that every store verifies. So this is HTTP/1.1 by the standard library: one request at a time on a
connection, each tried once, the caller told exactly what was answered.
"""

import contextlib
import http.client
import select
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpsession import ProxyConfiguration, get_cert_path

from automq.s3stream.store.s3_checksums import HEADERS, Checksum, checksum_of, chunks_of
from automq.s3stream.store.s3_credentials import Credential

# Of one write of a megabyte at most, and of the wait for the answer.
WRITE_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 30.0
# Servers close idle connections after a time of their own; Amazon's after some 20 s.
CONNECTIONS_KEPT_MAX: Final = 4
ANSWER_BYTES_MAX: Final = 1 << 16
# How long a server may take to answer a request whose end it will never see.
HALF_ANSWER_S: Final = 0.5
_UNSIGNED: Final = Config(s3={"payload_signing_enabled": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where PUTs go."""

    url: str
    """Scheme and host, the bucket's name included where it is part of the host name; no slash at its end."""
    bucket_path: str
    """Empty, or a slash and the bucket's name."""
    region: str
    proxies: Mapping[str, str]
    ca_file: str | None = None
    """Whom to trust beside the system's authorities; None: botocore's own list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What the server said; names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBody:
    """What was sent, and what came of it."""

    checksum: str
    """The header's value."""
    answer: HttpAnswer


class Transfer:
    """One PUT under way, to be broken off from another thread."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self._socket: socket.socket | None = None
        self._is_broken_off = False

    def begin(self, connection: http.client.HTTPConnection) -> None:
        """The request goes through `connection`. Raises ConnectionAbortedError when it was broken off before."""
        self._socket = connection.sock
        if self._is_broken_off:
            raise ConnectionAbortedError("broken off")

    def break_off(self) -> None:
        """Let the PUT end now, with an OSError."""
        self._is_broken_off = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class BodySender:
    """Sends PUTs to one endpoint. Methods block and may be called by several threads at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        parts = urlsplit(endpoint.url)
        self._host, self._port, self._is_tls = parts.hostname or "", parts.port, parts.scheme == "https"
        self._path = parts.path.rstrip("/") + endpoint.bucket_path
        self._idle: list[http.client.HTTPConnection] = []
        self._tls = _tls_context(endpoint.ca_file) if self._is_tls else None
        self._proxy = ProxyConfiguration(proxies=dict(endpoint.proxies)).proxy_url_for(endpoint.url)

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
        target, signed = self._sign(name, size, credential=credential, query=query, headers=checked)
        connection = self._take()
        try:
            self._begin(connection, transfer, target, signed)
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
        target, signed = self._sign(name, len(body), credential=credential, query={}, headers=checked)
        connection = self._connect()
        try:
            self._begin(connection, Transfer(), target, signed)
            connection.sock.sendall(body[: len(body) // 2])
            connection.sock.settimeout(HALF_ANSWER_S)
            with contextlib.suppress(OSError):
                if not self._is_tls:
                    connection.sock.shutdown(socket.SHUT_WR)
                    connection.sock.recv(ANSWER_BYTES_MAX)
        finally:
            connection.close()

    def close(self) -> None:
        """End the connections that are kept. Idempotent."""
        while self._idle:
            self._idle.pop().close()

    def _sign(
        self, name: str, size: int, *, credential: Credential, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        """The request's target, and its headers with the signature."""
        target = f"{self._path}/{quote(name, safe='/-_.~')}{'?' if query else ''}{urlencode(query)}"
        parts = urlsplit(self._endpoint.url)
        unsigned = AWSRequest(
            "PUT",
            f"{parts.scheme}://{parts.netloc}{target}",
            headers={**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"},
        )
        unsigned.context["client_config"] = _UNSIGNED
        keys = Credentials(credential.access_key, credential.secret_key, credential.token)
        S3SigV4Auth(keys, "s3", self._endpoint.region).add_auth(unsigned)
        return target, {**dict(unsigned.headers.items()), "Content-Length": str(size)}

    def _begin(
        self,
        connection: http.client.HTTPConnection,
        transfer: Transfer,
        target: str,
        headers: Mapping[str, str],
    ) -> None:
        transfer.begin(connection)
        if self._proxy and not self._is_tls:
            parts = urlsplit(self._endpoint.url)
            target = f"{parts.scheme}://{parts.netloc}{target}"
        connection.putrequest("PUT", target, skip_accept_encoding=True)
        for header, value in headers.items():
            connection.putheader(header, value)
        connection.endheaders()

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
                connection.sock.settimeout(WRITE_TIMEOUT_S)
                return connection
            # Nothing was asked: it can only be the connection's end.
            connection.close()
        return self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        if self._proxy:
            proxy = urlsplit(self._proxy)
            host, port = proxy.hostname or "", proxy.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=WRITE_TIMEOUT_S, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(host, port, timeout=WRITE_TIMEOUT_S)
        )
        if self._proxy and self._is_tls:
            connection.set_tunnel(self._host, self._port)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            connection.close()
            raise
        return connection


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trusts whom botocore trusts, and the system's authorities."""
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=ca_file or get_cert_path(True))
    return context


def _read_answer(connection: http.client.HTTPConnection) -> tuple[HttpAnswer, bool]:
    """The answer, and whether the connection ends with it."""
    connection.sock.settimeout(ANSWER_TIMEOUT_S)
    response = connection.getresponse()
    body = response.read(ANSWER_BYTES_MAX)
    headers = {name.lower(): value for name, value in response.getheaders()}
    return HttpAnswer(
        status=response.status, headers=headers, body=body
    ), response.will_close or not response.isclosed()
