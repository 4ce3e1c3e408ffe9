"""What ends a leading replica: being told to, not a watch that broke off."""

import asyncio
from typing import Any, cast

import aiohttp
import kopf
import pytest

from automq_operator import __main__ as program
from automq_operator.api_server import ApiError, ApiServer
from automq_operator.settings import OperatorSettings
from automq_operator.telemetry import Health
from automq_operator.topics import api as topic_api
from tests.support.api_server_double import MemoryServer

SETTINGS = OperatorSettings(
    default_image="automq:1", namespaces=(), own_namespace="system", identity="one", lease_name="lease", http_port=0,
    erase_s=1.0, node_lost_s=1.0,
)  # fmt: skip


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What each run of kopf ends with: an exception, or None for an orderly end."""
    endings: list[object] = []

    async def operator(**_: Any) -> None:
        ending = endings.pop(0)
        if isinstance(ending, Exception):
            raise ending

    monkeypatch.setattr(kopf, "operator", operator)
    monkeypatch.setattr(program, "AGAIN_S", 0.01)
    return endings


async def work(server: MemoryServer | None = None) -> None:
    replica = program.Program(SETTINGS, Health())
    server = server or MemoryServer()
    async with aiohttp.ClientSession() as session:
        await asyncio.wait_for(replica._work(cast(ApiServer, server), session), 5)


async def test_an_orderly_end_of_kopf_ends_the_work(runs: list[object]) -> None:
    """Signals reach kopf, not us, while it runs."""
    runs += [None, RuntimeError("begun again")]
    await work()
    assert len(runs) == 1


async def test_a_watch_that_broke_off_begins_anew(runs: list[object], caplog: pytest.LogCaptureFixture) -> None:
    runs += [RuntimeError("403 for a list"), None]
    await work()
    assert runs == []
    assert "403 for a list" in caplog.text


async def test_a_cluster_without_the_definition_of_topics_is_served_all_the_same(
    runs: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    server = MemoryServer()
    server.refuses["list", topic_api.KIND] = ApiError(status=404, message="page not found", what="list")
    runs.append(None)
    await work(server)
    assert runs == []
    assert "AutoMQTopic is not served" in caplog.text
