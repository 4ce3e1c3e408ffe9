"""The two S3 clients: the same bucket by the same name, region and credentials."""

import asyncio

import pytest

from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.s3_clients import S3Clients, S3Place
from automq.s3stream.store.s3_credentials import Credential


class Source:
    """Credentials that a test changes."""

    def __init__(self) -> None:
        self.credential = Credential(access_key="first", secret_key="secret", token=None)

    async def current(self) -> Credential:
        return self.credential

    async def refused(self, credential: Credential) -> bool:
        return self.credential != credential


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture(autouse=True)
def _no_ambient_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("place", "exact", "bulk", "region", "virtual"),
    [
        (
            S3Place(bucket="my-bucket", endpoint=None, region="eu-west-1", path_style=None),
            "https://s3.eu-west-1.amazonaws.com",
            "https://my-bucket.s3.eu-west-1.amazonaws.com",
            "eu-west-1",
            True,
        ),
        (
            S3Place(bucket="my-bucket", endpoint="http://localhost:9000", region=None, path_style=None),
            "http://localhost:9000",
            "http://localhost:9000",
            "us-east-1",
            False,
        ),
        (
            S3Place(bucket="my-bucket", endpoint="https://s3.example.com", region="r", path_style=False),
            "https://s3.example.com",
            "https://my-bucket.s3.example.com",
            "r",
            True,
        ),
    ],
)
async def test_both_clients_name_the_bucket_alike(
    source: Source, place: S3Place, exact: str, bulk: str, region: str, virtual: bool
) -> None:
    clients = S3Clients(place, source, make_workers=InlineWorkers)

    client = await clients.exact()
    bulk_client, _ = await clients.bulk()

    assert client.meta.endpoint_url == exact
    assert client.meta.region_name == region
    assert client.meta.config.s3["addressing_style"] == ("virtual" if virtual else "path")
    assert bulk_client.config["endpoint"] == bulk
    assert bulk_client.config["region"] == region
    await clients.close()


async def test_bulk_client_is_made_anew_when_the_credentials_are_others(source: Source) -> None:
    clients = S3Clients(
        S3Place(bucket="my-bucket", endpoint="http://x:1", region=None, path_style=None),
        source,
        make_workers=InlineWorkers,
    )
    first, _ = await clients.bulk()
    same, _ = await clients.bulk()
    source.credential = Credential(access_key="second", secret_key="secret", token="token")

    other, credential = await clients.bulk()

    assert same is first
    assert other is not first
    assert credential.access_key == "second"
    await clients.close()


async def test_clients_can_be_closed_twice_and_used_again(source: Source) -> None:
    clients = S3Clients(
        S3Place(bucket="my-bucket", endpoint="http://x:1", region=None, path_style=None),
        source,
        make_workers=InlineWorkers,
    )
    first = await clients.exact()

    await clients.close()
    await clients.close()

    assert await clients.exact() is not first
    await clients.close()


async def test_a_small_put_does_not_ask_first_whether_its_body_is_wanted(source: Source) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.readexactly(4) == b"body"
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        place = S3Place(bucket="b", endpoint=f"http://127.0.0.1:{port}", region="r", path_style=None)
        clients = S3Clients(place, source, make_workers=InlineWorkers)
        try:
            async with asyncio.timeout(30):
                await (await clients.exact()).put_object(Bucket="b", Key="k", Body=b"body")
        finally:
            await clients.close()

    (head,) = heads
    assert b"expect:" not in head.lower()
