"""The clients of an S3 store: aiobotocore where the exact status decides, obstore to read, threads for large bodies.

For reading, obstore costs a third of the CPU and works off the event loop; aiobotocore knows every operation and tells
every status; large bodies go out by `s3_sender`, and come by `s3_receiver` where they are read slowly. None tries again
by itself: a failed create must not be hidden, and each request is counted.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiobotocore.session
import aiohttp
import botocore.exceptions
import botocore.handlers
import botocore.loaders
import botocore.utils
import obstore.exceptions
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession
from botocore.credentials import ReadOnlyCredentials
from obstore.store import S3Store as BulkClient

from automq.callbacks import ignore
from automq.runtime.workers import Workers
from automq.s3stream.ports import StoreCredentialsRejected, StoreError, StoreUnavailable
from automq.s3stream.store.s3_checksums import Checksum
from automq.s3stream.store.s3_credentials import Credential, CredentialSource
from automq.s3stream.store.s3_errors import Answer, answer_in, error_of
from automq.s3stream.store.s3_receiver import BodyReceiver
from automq.s3stream.store.s3_sender import BodySender
from automq.s3stream.store.s3_wire import Endpoint, Wire

if TYPE_CHECKING:
    from obstore.store import S3Credential

DEFAULT_REGION: Final = "us-east-1"
CONNECT_TIMEOUT_S: Final = 5
# S3's p99.9 for 4 MiB is below a second; whoever waits longer waits in vain, and asks again.
ANSWER_TIMEOUT_S: Final = 10
# 16 MiB, the most that one request carries, at 370 KB/s.
BULK_TIMEOUT_S: Final = 45
CONNECTIONS_MAX: Final = 64

OnExactRequest = Callable[[str, str, int | None, int, int], None]
"""Method, query, status (None without an answer), bytes sent and received of one request through aiobotocore."""

_CREDENTIAL_ERRORS: Final = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.SSOError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """Which bucket, and how it is reached; what is None is botocore's to find out, or S3's default."""

    bucket: str
    endpoint: str | None
    region: str | None
    path_style: bool | None
    """None: path style where an endpoint is named, else the bucket is part of the host name."""
    checksum: Checksum = Checksum.CRC32C
    """What bodies are sent with, for the store to verify."""


class _Signer(AioCredentials):  # type: ignore[misc]
    """What aiobotocore signs with: the source's word at each request."""

    def __init__(self, source: CredentialSource) -> None:
        super().__init__("from", "the source")
        self._source = source

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        credential = await self._source.current()
        return ReadOnlyCredentials(credential.access_key, credential.secret_key, credential.token)

    async def load_credentials(self) -> "_Signer":
        """As a credential provider of a session: there is nothing to look up."""
        return self


class _AskingOnceSession(AIOHTTPSession):  # type: ignore[misc]
    """aiohttp sends a PUT again by itself when the connection ends without an answer: a hidden second try. Not here."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)
        assert hasattr(session, "_retry_connection"), "aiohttp has changed: find its new way to switch retries off"
        session._retry_connection = False
        return session


def _counting_session(on_request: OnExactRequest) -> type[_AskingOnceSession]:
    """A session whose every request is told of: redirects that botocore follows by itself as well."""

    class CountingSession(_AskingOnceSession):
        async def send(self, request: Any) -> Any:
            status, received = None, 0
            try:
                response = await super().send(request)
                status, received = response.status_code, len(await response.content)
                return response
            finally:
                sent = int(request.headers.get("Content-Length", 0))
                on_request(request.method, urlsplit(request.url).query, status, sent, received)

    return CountingSession


class S3Clients:
    """All clients, made when they are first asked for."""

    def __init__(self, place: S3Place, source: CredentialSource, *, make_workers: Callable[[], Workers]) -> None:
        """`make_workers` makes the threads that large bodies are sent by."""
        self._place = place
        self._source = source
        self._path_style = place.path_style if place.path_style is not None else place.endpoint is not None
        self._making = asyncio.Lock()
        self._exits = contextlib.AsyncExitStack()
        self._exact: Any = None
        self._make_workers = make_workers
        self._ca_file: str | None = None
        self._blocking: tuple[Wire, BodySender, Workers] | None = None
        self.on_request: OnExactRequest = ignore
        """Hears of each request through aiobotocore, after its end."""
        self._bulk: BulkClient | None = None
        self._bulk_credential: Credential | None = None

    async def exact(self) -> Any:
        """aiobotocore's client, bound to the running loop."""
        if self._exact is None:
            async with self._making:
                if self._exact is None:
                    self._exact = await self._make_exact()
        return self._exact

    async def bulk(self) -> tuple[BulkClient, Credential]:
        """obstore's client, and what it signs with; a new one when the credentials are others."""
        credential = await self._source.current()
        if self._bulk is None or credential != self._bulk_credential:
            endpoint = (await self.exact()).meta
            self._bulk = self._make_bulk(credential, endpoint.endpoint_url, endpoint.region_name)
            self._bulk_credential = credential
        return self._bulk, credential

    async def sender(self) -> tuple[BodySender, Workers]:
        """What sends large bodies, and the threads to do it in."""
        _, sender, workers = await self._threads()
        return sender, workers

    async def receiver(self) -> tuple[BodyReceiver, Workers]:
        """What takes one large body, and the threads to do it in."""
        wire, _, workers = await self._threads()
        return BodyReceiver(wire), workers

    async def _threads(self) -> tuple[Wire, BodySender, Workers]:
        if self._blocking is None:
            meta = (await self.exact()).meta
            endpoint = Endpoint(
                url=self._bulk_endpoint(meta.endpoint_url),
                bucket_path=f"/{self._place.bucket}" if self._path_style else "",
                region=meta.region_name,
                proxies=botocore.utils.get_environ_proxies(meta.endpoint_url),
                ca_file=self._ca_file,
            )
            wire = Wire(endpoint)
            self._blocking = wire, BodySender(wire), self._make_workers()
        return self._blocking

    async def close(self) -> None:
        """Close every connection. Idempotent; errors of connections that end are nobody's business any more."""
        self._exact = self._bulk = self._bulk_credential = None
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            _, sender, workers = blocking
            sender.close()
            workers.close()
        with contextlib.suppress(OSError, aiohttp.ClientError, botocore.exceptions.BotoCoreError):
            await self._exits.aclose()

    async def _make_exact(self) -> Any:
        session = aiobotocore.session.get_session()
        # AWS_CA_BUNDLE, or a profile's.
        self._ca_file = session.get_config_variable("ca_bundle")
        session.register_component("credential_provider", _Signer(self._source))
        session.register_component("data_loader", _service_descriptions())
        config = AioConfig(
            s3={"addressing_style": "path" if self._path_style else "virtual", "payload_signing_enabled": False},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # An unknown outcome must come back as one: a hidden second try would turn our own success into a 412.
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=ANSWER_TIMEOUT_S,
            max_pool_connections=CONNECTIONS_MAX,
            ignore_configured_endpoint_urls=True,
            http_session_cls=_counting_session(lambda *request: self.on_request(*request)),
        )
        client = await self._exits.enter_async_context(
            session.create_client(
                "s3",
                region_name=self._place.region or session.get_config_variable("region") or DEFAULT_REGION,
                endpoint_url=self._place.endpoint,
                config=config,
            )
        )
        client.meta.events.register("before-sign.s3.DeleteObjects", _check_by_md5)
        # A small body goes out with its head. To ask first whether it is wanted costs a PUT a journey, and leaves an
        # error that nobody takes where the connection ends before the head is written.
        client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)
        return client

    def _bulk_endpoint(self, endpoint: str) -> str:
        if self._path_style:
            return endpoint
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{self._place.bucket}.{host}"

    def _make_bulk(self, credential: Credential, endpoint: str, region: str) -> BulkClient:
        endpoint = self._bulk_endpoint(endpoint)
        return BulkClient(
            self._place.bucket,
            config={
                "endpoint": endpoint,
                "region": region,
                "virtual_hosted_style_request": not self._path_style,
                "unsigned_payload": True,
            },
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
                "timeout": timedelta(seconds=BULK_TIMEOUT_S),
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
            # Given this way, no AWS_SESSION_TOKEN of the environment is mixed with them.
            credential_provider=lambda: _bulk_credential(credential),
        )


@functools.cache
def _service_descriptions() -> Any:
    """botocore's description of S3: a quarter of a second to read, the same for every client."""
    return botocore.loaders.create_loader()


def _check_by_md5(request: Any, **_: Any) -> None:
    """Every store takes Content-MD5 for a batch of deletes; many know no other checksum, and want one."""
    for header in list(request.headers.keys()):
        if header.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")):
            del request.headers[header]
    body = request.data if isinstance(request.data, bytes) else str(request.data).encode()
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _bulk_credential(credential: Credential) -> "S3Credential":
    return {
        "access_key_id": credential.access_key,
        "secret_access_key": credential.secret_key,
        "token": credential.token,
        "expires_at": None,
    }


@contextlib.asynccontextmanager
async def translated(what: str) -> AsyncIterator[None]:
    """Within, whatever either client raises becomes the port's error."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise error_of(_answer_of(error), what) from error
    except _CREDENTIAL_ERRORS as error:
        raise StoreCredentialsRejected(f"{what}: {error}") from error
    except botocore.exceptions.ParamValidationError:
        raise
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError, aiohttp.ClientError) as error:
        raise StoreUnavailable(f"{what}: no answer: {error or type(error).__name__}") from error
    except FileNotFoundError as error:
        raise _bulk_error(error, what) from error
    except obstore.exceptions.BaseError as error:
        raise _bulk_error(error, what) from error
    except (OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{what}: no answer: {str(error) or type(error).__name__}") from error


def _answer_of(error: Any) -> Answer:
    body = error.response.get("Error", {})
    return Answer(
        status=int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
        code=str(body.get("Code", "")),
        message=str(body.get("Message", "")),
    )


def bulk_answer(error: Exception) -> Answer | None:
    """The server's answer that an error of obstore's tells of; None when there was none."""
    return answer_in(str(error), class_name=type(error).__name__)


def _bulk_error(error: Exception, what: str) -> StoreError:
    answer = bulk_answer(error)
    if answer is not None:
        return error_of(answer, what)
    reason = str(error).partition("\n")[0]
    return StoreUnavailable(f"{what}: no answer: {reason}")
