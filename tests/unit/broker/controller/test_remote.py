"""The way to a controller elsewhere, when the wire is cut, the answer lost, or somebody else answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from automq.controller import link_server, remote, wire
from automq.controller.link import Answer
from automq.controller.link_server import LinkServer
from automq.controller.model import TopicSpec
from automq.controller.remote import LinkSettings, RemoteLink
from automq.controller.requests import CreateTopics, OpenStreams, PrepareObjects, RegisterBroker, Request
from automq.controller.service import Controller
from automq.ids import BrokerEpoch, ClusterId
from automq.metadata.records import FORMAT_LEVEL
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import NotController
from tests.support.link_wire import LinkWire
from tests.support.metadata_worlds import CLUSTER, NODE, LoopClock, World

pytestmark = pytest.mark.looptime

CREATE = CreateTopics([TopicSpec(name="t", partitions=1)], False)
REGISTER = RegisterBroker(NODE, None, [], FORMAT_LEVEL)


class Ends:
    """A controller, the wire, and a broker's link."""

    def __init__(self) -> None:
        self.world = World()
        self.wire = LinkWire(None)
        self.crashes: list[BaseException] = []
        self.tasks = Tasks("broker", on_crash=lambda _name, error: self.crashes.append(error))
        self.link = self.a_link()

    def a_link(self, *, cluster_id: ClusterId = CLUSTER, seed: str = "link") -> RemoteLink:
        return RemoteLink(
            dial=self.wire.dial,
            cluster_id=cluster_id,
            node=NODE,
            entropy=SeededEntropy(seed),
            tasks=self.tasks,
            settings=LinkSettings(connect_timeout_s=2.0, ask_timeout_s=10.0),
        )

    async def controller(self, name: str) -> Controller:
        controller, _published = self.world.controller(name)
        await controller.start(owner=None)
        self.wire.server = LinkServer(
            controller=controller, cluster_id=CLUSTER, clock=LoopClock(), tasks=self.world.tasks
        )
        return controller


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.link.close()
    await made.tasks.close()
    await made.world.close()
    assert made.world.crashes == []
    assert made.crashes == []


def carried_out(monkeypatch: pytest.MonkeyPatch, ends: Ends) -> list[Request]:
    """What reaches the controller from now on; the first answer is lost with its connection."""
    seen: list[Request] = []
    real: Callable[..., Any] = link_server.answer

    async def answer(controller: Controller, request: Request) -> Answer:
        seen.append(request)
        found: Answer = await real(controller, request)
        if len(seen) == 1:
            ends.wire.cut()
        return found

    monkeypatch.setattr(link_server, "answer", answer)
    return seen


@pytest.mark.parametrize("request_", [CREATE, REGISTER], ids=["once", "repeatable"])
async def test_what_was_sent_is_carried_out_once_though_its_answer_is_lost(
    monkeypatch: pytest.MonkeyPatch, ends: Ends, request_: Request
) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    seen = carried_out(monkeypatch, ends)

    answer = await ends.link.ask(request_)

    assert answer.error is None
    assert seen == [request_]
    if request_ is CREATE:
        assert answer.value[0].error is None
    assert ends.wire.dials == 2


async def test_cut_while_it_is_carried_out_it_is_answered_over_the_next_connection(
    monkeypatch: pytest.MonkeyPatch, ends: Ends
) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    real: Callable[..., Any] = link_server.answer
    seen: list[Request] = []

    async def slow(controller: Controller, request: Request) -> Answer:
        seen.append(request)
        await asyncio.sleep(1)
        found: Answer = await real(controller, request)
        return found

    monkeypatch.setattr(link_server, "answer", slow)
    asking = asyncio.ensure_future(ends.link.ask(CREATE))
    await asyncio.sleep(0.5)
    ends.wire.cut()

    assert (await asking).value[0].error is None
    assert len(seen) == 1


@pytest.mark.parametrize(("request_", "is_done"), [(CREATE, False), (REGISTER, True)], ids=["once", "repeatable"])
async def test_another_controller_is_asked_only_what_may_be_repeated(
    ends: Ends, request_: Request, is_done: bool
) -> None:
    await ends.controller("first")
    ends.wire.swallows = False
    await ends.link.ask(RegisterBroker(NODE, None, [], FORMAT_LEVEL))
    ends.wire.swallows = True
    asking = asyncio.ensure_future(ends.link.ask(request_))
    await asyncio.sleep(0.1)
    second = await ends.controller("second")
    ends.wire.swallows = False
    ends.wire.cut()

    if is_done:
        assert (await asking).error is None
        assert ends.link.leader is not None
        assert ends.link.leader.epoch == second.epoch
    else:
        with pytest.raises(NotController, match="not known"):
            await asking


async def test_nobody_listens_is_said_at_once_and_nothing_has_happened(ends: Ends) -> None:
    for _ in range(2):
        with pytest.raises(NotController, match="cannot be reached"):
            await ends.link.ask(CREATE)
    assert ends.link.leader is None

    await ends.controller("first")
    assert (await ends.link.ask(CREATE)).error is None


async def test_a_controller_that_does_not_answer_is_given_up_and_found_again(ends: Ends) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    ends.wire.swallows = True
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotController, match="did not answer in 10 s"):
        await ends.link.ask(PrepareObjects(NODE, BrokerEpoch(1), 1))
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0)
    with pytest.raises(NotController, match="no controller answered in 2 s"):
        await ends.link.ask(PrepareObjects(NODE, BrokerEpoch(1), 1))

    ends.wire.swallows = False
    assert (await ends.link.ask(PrepareObjects(NODE, BrokerEpoch(1), 1))).value == [1]


async def test_who_has_lost_the_claim_refuses_and_is_asked_again_only_when_it_answers(ends: Ends) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    old = ends.wire.server
    await ends.controller("second")
    ends.wire.server = old

    with pytest.raises(NotController):
        await ends.link.ask(REGISTER)
    assert ends.link.leader is None
    with pytest.raises(NotController, match="not the controller any more"):
        await ends.link.ask(REGISTER)


async def test_a_stranger_is_refused(ends: Ends) -> None:
    await ends.controller("first")
    stranger = ends.a_link(cluster_id=ClusterId("another"), seed="stranger")
    with pytest.raises(NotController, match=f"this is cluster {CLUSTER}"):
        await stranger.ask(CREATE)
    assert ends.wire.server is not None
    assert ends.wire.server.session_count == 0
    stranger.close()


async def test_requests_share_one_connection_and_answers_come_in_any_order(
    monkeypatch: pytest.MonkeyPatch, ends: Ends
) -> None:
    await ends.controller("first")
    real: Callable[..., Any] = link_server.answer
    started: list[Request] = []

    async def backwards(controller: Controller, request: Request) -> Answer:
        started.append(request)
        await asyncio.sleep(3 - len(started) * 0.5)
        found: Answer = await real(controller, request)
        return found

    monkeypatch.setattr(link_server, "answer", backwards)
    asked: list[Request] = [CREATE, REGISTER, CreateTopics([TopicSpec(name="u", partitions=1)], False)]
    answers = await asyncio.gather(*(ends.link.ask(request) for request in asked))
    assert [answer.error for answer in answers] == [None, None, None]
    assert (answers[0].value[0].name, answers[1].value.epoch, answers[2].value[0].name) == ("t", 1, "u")
    assert ends.wire.dials == 1


async def test_what_was_answered_is_not_kept_for_ever(ends: Ends) -> None:
    await ends.controller("first")
    for _ in range(50):
        await ends.link.ask(PrepareObjects(NODE, BrokerEpoch(1), 1))
    assert ends.wire.server is not None
    (session,) = ends.wire.server._sessions.values()
    assert len(session.asked) == 1


async def test_sessions_without_a_connection_go_after_a_while(monkeypatch: pytest.MonkeyPatch, ends: Ends) -> None:
    monkeypatch.setattr(link_server, "SESSIONS_MAX", 2)
    await ends.controller("first")
    others = [ends.a_link(seed=f"process {number}") for number in range(3)]
    for other in others[:2]:
        await other.ask(REGISTER)
    with pytest.raises(NotController, match="2 brokers are connected"):
        await others[2].ask(REGISTER)
    others[0].close()
    await asyncio.sleep(link_server.SESSION_KEPT_S - 1)
    with pytest.raises(NotController):
        await others[2].ask(REGISTER)
    await asyncio.sleep(2)
    assert (await others[2].ask(REGISTER)).error is None
    for other in others:
        other.close()


async def test_too_much_at_once_is_refused_at_both_ends(monkeypatch: pytest.MonkeyPatch, ends: Ends) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    hold = asyncio.Event()
    real: Callable[..., Any] = link_server.answer

    async def held(controller: Controller, request: Request) -> Answer:
        await hold.wait()
        found: Answer = await real(controller, request)
        return found

    monkeypatch.setattr(link_server, "answer", held)
    monkeypatch.setattr(remote, "ASKS_MAX", 3)
    monkeypatch.setattr(link_server, "SESSION_ASKS_MAX", 3)
    waiting = [asyncio.ensure_future(ends.link.ask(OpenStreams(NODE, BrokerEpoch(1)))) for _ in range(3)]
    await asyncio.sleep(0.1)
    with pytest.raises(NotController, match="wait for the controller already"):
        await ends.link.ask(CREATE)
    monkeypatch.setattr(remote, "ASKS_MAX", 9)
    with pytest.raises(NotController, match="3 requests are under way"):
        await ends.link.ask(CREATE)
    hold.set()
    for each in waiting:
        await asyncio.wait([each])
    monkeypatch.setattr(link_server, "answer", real)
    assert (await ends.link.ask(CREATE)).error is None


async def test_a_bug_in_one_request_ends_nobody_else(
    monkeypatch: pytest.MonkeyPatch, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    real: Callable[..., Any] = link_server.answer

    async def broken(_controller: Controller, _request: Request) -> Answer:
        raise AssertionError("a bug")

    monkeypatch.setattr(link_server, "answer", broken)
    failed = await ends.link.ask(CREATE)
    assert "UNKNOWN_SERVER_ERROR" in str(failed.error)
    assert "a request over the link failed" in caplog.text
    monkeypatch.setattr(link_server, "answer", real)
    assert (await ends.link.ask(CREATE)).error is None


class Raw(asyncio.Protocol):
    """Somebody who sends bytes."""

    def __init__(self) -> None:
        self.received = b""
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_lost = True


HELLO = wire.encode_frame(wire.Hello(version=1, cluster_id=CLUSTER, node=NODE, session=b"s" * 16))


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (wire.HELLO_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x02\x91\x63",
        wire.encode_frame(
            wire.Ask(number=1, epoch=1, done_below=1, request=wire.encode_request(CREATE))  # type: ignore[arg-type]
        ),
        HELLO + HELLO,
        HELLO + (wire.FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
    ],
    ids=["another protocol", "too large", "no message", "no hello", "twice", "too large later"],
)
async def test_who_speaks_something_else_is_cut_off(ends: Ends, sent: bytes) -> None:
    await ends.controller("first")
    raw = Raw()
    ends.wire.raw(raw).write(sent)
    await asyncio.sleep(0.1)
    assert raw.is_lost
    assert ends.wire.server is not None
    assert ends.wire.server.peers == {}
    assert (await ends.link.ask(CREATE)).error is None


async def test_who_says_nothing_is_cut_off(ends: Ends) -> None:
    await ends.controller("first")
    raw = Raw()
    ends.wire.raw(raw)
    await asyncio.sleep(link_server.HELLO_TIMEOUT_S - 0.1)
    assert not raw.is_lost
    await asyncio.sleep(0.2)
    assert raw.is_lost


async def test_closing_answers_everybody(ends: Ends) -> None:
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    ends.wire.swallows = True
    asking = asyncio.ensure_future(ends.link.ask(REGISTER))
    await asyncio.sleep(0.1)
    ends.link.close()
    with pytest.raises(NotController):
        await asking
    with pytest.raises(NotController, match="closed"):
        await ends.link.ask(REGISTER)


async def test_a_connection_that_ends_in_the_turn_of_its_welcome_is_none(
    monkeypatch: pytest.MonkeyPatch, ends: Ends
) -> None:
    await ends.controller("first")
    losses: list[str] = []
    monkeypatch.setattr(ends.link, "_on_connection_lost", lambda: losses.append("lost"))
    real = remote._Connection._on_frame

    def welcomed_and_lost(connection: Any, body: bytes) -> None:
        real(connection, body)
        connection.frames.close()

    with monkeypatch.context() as patch:
        patch.setattr(remote._Connection, "_on_frame", welcomed_and_lost)
        with pytest.raises(remote.Unreached) as unreached:
            await ends.link.connect()
    assert unreached.value.contact is remote.Contact.REFUSED
    # Whoever follows takes `connect` for a connection whose end it will be told of.
    await ends.link.connect()
    ends.wire.cut()
    await asyncio.sleep(0.1)
    assert losses == ["lost"]


async def test_a_caller_that_asks_again_at_once_spoils_nothing_for_one_that_waits(ends: Ends) -> None:
    async def ask_twice() -> None:
        for _ in range(2):
            with pytest.raises(NotController, match="cannot be reached"):
                await ends.link.ask(REGISTER)

    async def ask_once() -> None:
        with pytest.raises(NotController, match="cannot be reached"):
            await ends.link.ask(REGISTER)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_twice())
        group.create_task(ask_once())


async def test_what_was_asked_of_the_controller_before_this_process_became_it_is_given_back(ends: Ends) -> None:
    # Cluster seed 77: a broker that took over while it registered waited out the whole time limit first.
    await ends.controller("first")
    await ends.link.ask(REGISTER)
    ends.wire.swallows = True
    asking = asyncio.ensure_future(ends.link.ask(REGISTER))
    await asyncio.sleep(0.1)
    ends.wire.server = None
    began = asyncio.get_running_loop().time()

    ends.link.abandon()

    with pytest.raises(NotController, match="this process is the controller now"):
        await asking
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_connection_on_its_way_to_a_machine_that_is_gone_keeps_nobody_from_the_next_controller(
    monkeypatch: pytest.MonkeyPatch, ends: Ends
) -> None:
    # Cluster seed 171: two brokers were fenced while their links waited for an answer of the dead machine.
    await ends.controller("second")
    dial = ends.wire.dial
    gone = asyncio.Event()

    async def answers_nothing(factory: Callable[[], asyncio.BaseProtocol]) -> None:
        gone.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ends.link, "_dial", answers_nothing)
    asking = [asyncio.ensure_future(ends.link.ask(REGISTER)), asyncio.ensure_future(ends.link.connect())]
    await gone.wait()
    began = asyncio.get_running_loop().time()

    monkeypatch.setattr(ends.link, "_dial", dial)
    ends.link.disconnect()

    await asyncio.gather(*asking)
    assert asyncio.get_running_loop().time() - began < 0.5
