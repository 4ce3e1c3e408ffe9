"""One S3 server (moto) for the tests of this folder, a proxy before it, and stores on it."""

import pathlib
from collections.abc import AsyncIterator, Iterator

import pytest

from automq.runtime.entropy import SeededEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.s3 import S3Store
from automq.s3stream.store.uri import open_store, parse_store_uri
from tests.support.fault_proxy import FaultProxy, run_fault_proxy
from tests.support.s3_server import S3Server, run_s3_server, write_credentials


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


@pytest.fixture
async def proxy(s3_server: S3Server) -> AsyncIterator[FaultProxy]:
    async with run_fault_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def store(s3_server: S3Server, proxy: FaultProxy, tmp_path: pathlib.Path) -> AsyncIterator[S3Store]:
    opened = open_at(s3_server.make_store_uri(endpoint=proxy.endpoint), write_credentials(tmp_path / "credentials"))
    yield opened
    await opened.close()


def open_at(uri: str, credentials: str) -> S3Store:
    store = open_store(
        parse_store_uri(uri), workers=InlineWorkers(), entropy=SeededEntropy(1), credentials_folder=credentials
    )
    assert isinstance(store, S3Store)
    return store
