"""Half of a PUT whose client died is not stored: with the checksum that every body has, also where it is otherwise."""

import os
import pathlib
import socket
from collections.abc import AsyncIterator

import pytest

from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.ports import ObjectNotFound
from automq.s3stream.store import doctor
from automq.s3stream.store.conditional import create_once
from automq.s3stream.store.s3 import S3Store
from automq.s3stream.store.s3_credentials import Credential
from automq.s3stream.store.uri import open_store, parse_store_uri
from tests.contract.conftest import SERVERS
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, write_credentials

# A WAL slot of a megabyte, of which a quarter was stored.
BODY = os.urandom(1 << 20)


@pytest.fixture(params=SERVERS)
async def s3_store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[S3Store]:
    workers = ThreadWorkers()
    uri = parse_store_uri(request.getfixturevalue(request.param).make_store_uri())
    store = open_store(
        uri, workers=workers, entropy=SystemEntropy(), credentials_folder=write_credentials(tmp_path / "credentials")
    )
    assert isinstance(store, S3Store)
    yield store
    await store.close()
    workers.close()


@pytest.mark.parametrize("if_absent", [True, False])
async def test_f1_half_put_is_not_stored(s3_store: S3Store, if_absent: bool) -> None:
    assert await s3_store.put_half("a/slot", [BODY], if_absent=if_absent)

    with pytest.raises(ObjectNotFound):
        await s3_store.get("a/slot")
    await create_once(s3_store, "a/slot", [BODY], decode=bytes, entropy=SystemEntropy())
    assert await s3_store.get("a/slot") == BODY


async def test_f1_half_put_leaves_what_was_there(s3_store: S3Store) -> None:
    await s3_store.put("a/lease", [b"the one before"])

    assert await s3_store.put_half("a/lease", [BODY], if_absent=False)

    assert await s3_store.get("a/lease") == b"the one before"


async def test_f1_the_doctor_finds_each_server_suitable(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # A slow machine is no slow store.
    monkeypatch.setattr(doctor, "SECONDS_MAX", 60.0)

    report = await doctor.run_doctor(s3_store, name="it", clock=SystemClock(), entropy=SystemEntropy())

    assert report.suitable, report.failures


async def test_f1_versitygw_stores_half_a_put_that_has_no_checksum(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    """Why there must be one. A version of it that does not would make this test superfluous."""
    server = request.getfixturevalue("versitygw")
    bucket = server.make_bucket()
    workers = ThreadWorkers()
    uri = parse_store_uri(f"s3://{bucket}?endpoint={server.endpoint}")
    store = open_store(
        uri, workers=workers, entropy=SystemEntropy(), credentials_folder=write_credentials(tmp_path / "credentials")
    )
    assert isinstance(store, S3Store)
    sender, _ = await store._clients.sender()
    target, headers = sender._wire.sign(
        "PUT",
        "slot",
        credential=Credential(access_key=ACCESS_KEY, secret_key=SECRET_KEY, token=None),
        query={},
        headers={},
    )

    def send_half() -> None:
        host, _, port = server.endpoint.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as wire:
            sent = {**headers, "Content-Length": len(BODY)}
            head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
            wire.sendall(
                f"PUT {target} HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n".encode() + BODY[: len(BODY) // 2]
            )
            wire.shutdown(socket.SHUT_WR)
            wire.recv(1000)

    await workers.run(send_half)

    assert len(await store.get("slot")) == len(BODY) // 2
    await store.close()
    workers.close()
