"""Events: posted whoever tells, tried again, dropped rather than in the way."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from automq_operator.api_server import ApiError, ApiServer
from automq_operator.plan import Note
from automq_operator.recorder import TRIES, WAITING_MAX, Recorder
from tests.support.api_server_double import a_resource

pytestmark = pytest.mark.looptime
NOTE = Note(reason="Refused", message="Service/demo-kafka: 422 no", warning=True)


class Server:
    def __init__(self) -> None:
        self.raises: list[Exception] = []
        self.posted: list[Mapping[str, Any]] = []

    async def create(self, manifest: Mapping[str, Any]) -> None:
        if self.raises:
            raise self.raises.pop(0)
        self.posted.append(manifest)


async def posted(server: Server, *notes: Note) -> list[str]:
    recorder = Recorder(cast(ApiServer, server), identity="one")
    running = asyncio.get_running_loop().create_task(recorder.run())
    for note in notes:
        recorder.emit_event(a_resource(), note)
    await asyncio.sleep(60)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return [event["message"] for event in server.posted]


async def test_an_event_says_what_about_whom() -> None:
    server = Server()
    assert await posted(server, NOTE) == [NOTE.message]
    (event,) = server.posted
    assert (event["type"], event["reason"]) == ("Warning", "Refused")
    assert event["involvedObject"]["uid"] == a_resource()["metadata"]["uid"]


async def test_a_busy_api_server_is_asked_again() -> None:
    server = Server()
    server.raises = [ApiError(status=429, message="later", what="POST")] * (TRIES - 1)
    assert await posted(server, NOTE) == [NOTE.message]


@pytest.mark.parametrize("error", [ApiError(status=403, message="terminating", what="POST"), KeyError("a bug")])
async def test_what_cannot_be_posted_holds_nothing_up(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.raises = [error]
    second = Note(reason="Ready", message="1 of 1 brokers serve")
    assert await posted(server, NOTE, second) == [second.message]
    assert "Event not posted" in caplog.text


async def test_events_that_nobody_takes_are_bounded() -> None:
    server = Server()
    notes = [Note(reason="Ready", message=str(number)) for number in range(WAITING_MAX + 10)]
    assert await posted(server, *notes) == [note.message for note in notes[10:]]
