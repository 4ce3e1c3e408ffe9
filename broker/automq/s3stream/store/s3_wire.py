"""One HTTP/1.1 connection to an S3 server, blocking: made, signed for, and broken off from another thread.

By the standard library, for bodies that are too large for the event loop: `s3_sender` sends them, `s3_receiver` takes
them piece by piece.
"""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpsession import ProxyConfiguration, get_cert_path

from automq.s3stream.store.s3_credentials import Credential

# Of one write of a megabyte at most, or of the wait for the next bytes of an answer.
PROGRESS_TIMEOUT_S: Final = 10.0
_UNSIGNED: Final = Config(s3={"payload_signing_enabled": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where requests go."""

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


class Transfer:
    """One request under way, to be broken off from another thread."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self._socket: socket.socket | None = None
        self._is_broken_off = False

    def begin(self, connection: socket.socket) -> None:
        """The request goes through `connection`. Raises ConnectionAbortedError when it was broken off before."""
        self._socket = connection
        if self._is_broken_off:
            raise ConnectionAbortedError("broken off")

    def break_off(self) -> None:
        """Let the request end now, with an OSError."""
        self._is_broken_off = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class Wire:
    """Requests to one endpoint. Methods block and may be called by several threads at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        parts = urlsplit(endpoint.url)
        self._host, self._port, self.is_tls = parts.hostname or "", parts.port, parts.scheme == "https"
        self._path = parts.path.rstrip("/") + endpoint.bucket_path
        self._tls = _tls_context(endpoint.ca_file) if self.is_tls else None
        self._proxy = ProxyConfiguration(proxies=dict(endpoint.proxies)).proxy_url_for(endpoint.url)

    def sign(
        self, method: str, name: str, *, credential: Credential, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        """The request's target, and its headers with the signature."""
        target = f"{self._path}/{quote(name, safe='/-_.~')}{'?' if query else ''}{urlencode(query)}"
        parts = urlsplit(self._endpoint.url)
        unsigned = AWSRequest(
            method,
            f"{parts.scheme}://{parts.netloc}{target}",
            headers={**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"},
        )
        unsigned.context["client_config"] = _UNSIGNED
        keys = Credentials(credential.access_key, credential.secret_key, credential.token)
        S3SigV4Auth(keys, "s3", self._endpoint.region).add_auth(unsigned)
        return target, dict(unsigned.headers.items())

    def begin(
        self,
        connection: http.client.HTTPConnection,
        transfer: Transfer,
        method: str,
        target: str,
        headers: Mapping[str, str],
    ) -> None:
        """Send the request's head. Raises OSError."""
        transfer.begin(connection.sock)
        if self._proxy and not self.is_tls:
            parts = urlsplit(self._endpoint.url)
            target = f"{parts.scheme}://{parts.netloc}{target}"
        connection.putrequest(method, target, skip_accept_encoding=True)
        for header, value in headers.items():
            connection.putheader(header, value)
        connection.endheaders()

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, by the proxy where there is one. Raises OSError or http.client.HTTPException."""
        host, port = self._host, self._port
        if self._proxy:
            proxy = urlsplit(self._proxy)
            host, port = proxy.hostname or "", proxy.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=PROGRESS_TIMEOUT_S, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(host, port, timeout=PROGRESS_TIMEOUT_S)
        )
        if self._proxy and self.is_tls:
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


def headers_of(response: http.client.HTTPResponse) -> Mapping[str, str]:
    """Of an answer; names in small letters."""
    return {name.lower(): value for name, value in response.getheaders()}
