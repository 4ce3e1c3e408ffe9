"""Every adapter of the object store: memory, a folder, S3 on moto, on versitygw and MinIO where they are built, and any
S3 endpoint named in the environment (AUTOMQ_TEST_S3=s3://BUCKET?endpoint=URL, credentials from the usual variables).
"""

import dataclasses
import os
import pathlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.uri import open_store, parse_store_uri
from tests.support.fault_proxy import FaultProxy, run_fault_proxy
from tests.support.real_s3 import run_real_s3
from tests.support.s3_server import S3Server, run_s3_server, write_credentials

ENDPOINT_IN_ENVIRONMENT = os.environ.get("AUTOMQ_TEST_S3")
SERVERS = ["moto", "versitygw", "minio"]
ADAPTERS = ["memory", "file", *SERVERS] + (["environment"] if ENDPOINT_IN_ENVIRONMENT else [])


@dataclass(frozen=True, slots=True)
class Adapter:
    """A store, and the wire to it where there is one."""

    store: ObjectStorage
    proxy: FaultProxy | None


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_real_s3("versitygw", tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_real_s3("minio", tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[ObjectStorage]:
    workers, entropy = ThreadWorkers(), SystemEntropy()
    credentials: str | None = None
    match request.param:
        case "memory":
            uri = parse_store_uri("memory:")
        case "file":
            uri = parse_store_uri(f"file://{tmp_path}/store")
        case "environment":
            uri = parse_store_uri(str(ENDPOINT_IN_ENVIRONMENT))
            prefix = f"{uri.prefix}/{entropy.token(6).hex()}".lstrip("/")
            uri = dataclasses.replace(uri, prefix=prefix)
        case server:
            uri = parse_store_uri(request.getfixturevalue(server).make_store_uri())
            credentials = write_credentials(tmp_path / "credentials")
    opened = open_store(uri, workers=workers, entropy=entropy, credentials_folder=credentials)
    try:
        yield opened
        if request.param == "environment":
            await opened.delete([info.key for info in await opened.list("")])
    finally:
        await opened.close()
        workers.close()


@pytest.fixture(params=["memory", "file", *SERVERS])
async def adapter(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Adapter]:
    workers, proxy, credentials = ThreadWorkers(), None, None
    async with AsyncExitStack() as stack:
        stack.callback(workers.close)
        match request.param:
            case "memory":
                text = "memory:"
            case "file":
                text = f"file://{tmp_path}/store"
            case name:
                server = request.getfixturevalue(name)
                proxy = await stack.enter_async_context(run_fault_proxy(server.endpoint))
                text = server.make_store_uri(endpoint=proxy.endpoint)
                credentials = write_credentials(tmp_path / "credentials")
        uri = parse_store_uri(text)
        store = open_store(uri, workers=workers, entropy=SystemEntropy(), credentials_folder=credentials)
        stack.push_async_callback(store.close)
        yield Adapter(store, proxy)
