"""What a broker logs of its life, on doubles and virtual time."""

import asyncio
import logging

import pytest

from automq import __version__
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.server.broker import Broker
from automq.server.lifecycle.states import Event, Lifecycle, Reason, State
from automq.server.observability.journal import Journal
from tests.support.quiet_platform import LoopClock, quiet_broker, quiet_settings

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class SwitchedStore(MemoryStore):
    """A store that can be away."""

    is_away = False

    async def get(self, key: str) -> bytes:
        if self.is_away:
            raise StoreUnavailable("away")
        return await super().get(key)


def lines(caplog: pytest.LogCaptureFixture, message: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == message]


async def until(broker: Broker, state: State) -> None:
    async with asyncio.timeout(60):
        while broker.lifecycle.state is not state:
            await asyncio.sleep(0.05)


async def run_until_serving(broker: Broker) -> "asyncio.Task[None]":
    task = asyncio.ensure_future(broker.run())
    await until(broker, State.SERVING)
    return task


async def stop(broker: Broker, task: "asyncio.Task[None]") -> None:
    broker.stop()
    await asyncio.wait_for(task, 120)


async def test_start_names_version_store_listeners_and_what_was_changed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")
    broker = quiet_broker(MemoryStore(), log__retention__ms="1000", num__partitions="1", group__max__size="7")
    await stop(broker, await run_until_serving(broker))

    (start,) = lines(caplog, "broker starts")
    fields = vars(start)
    assert fields["version"] == __version__
    assert (fields["node"], fields["store"]) == (1, "memory:")
    assert fields["listeners"] == "PLAINTEXT://here:9092"
    assert "group.max.size=7" in fields["changed"]
    assert fields["memory"].endswith(" MiB")
    assert fields["memory_limit"] == "unknown"
    assert "log.retention.ms=1000" in fields["changed"]
    # Set, and the same as the default.
    assert "num.partitions" not in fields["changed"]


async def test_readiness_has_its_times_and_what_is_served(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")
    store = MemoryStore()
    broker = quiet_broker(store)
    await stop(broker, await run_until_serving(broker))
    again = quiet_broker(store, seed=2)
    await stop(again, await run_until_serving(again))

    first, second = lines(caplog, "broker ready")
    assert vars(first)["cluster"] == broker.cluster_id
    for name in ("after_s", "starting_s", "recovering_s"):
        assert vars(first)[name] >= 0
    assert vars(first)["recovered_logs"] == 0
    # A clean stop ends its log: there is nothing to recover, whoever comes next.
    assert vars(second)["topics"] == 0
    assert [
        record.getMessage() for record in caplog.records if record.name == "automq.server.observability.journal"
    ].count("cluster formatted") == 1
    assert len(lines(caplog, "cluster found")) == 1


async def test_every_change_of_state_says_how_long_the_last_one_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")
    broker = quiet_broker(MemoryStore())
    await stop(broker, await run_until_serving(broker))

    changes = [(vars(each)["before"], vars(each)["state"]) for each in lines(caplog, "state changed")]
    assert changes == [("Starting", "Recovering"), ("Recovering", "Serving"), ("Serving", "Draining")]
    (stopped,) = lines(caplog, "broker stopped")
    assert vars(stopped)["up_s"] >= vars(stopped)["stopping_s"]


async def test_outage_at_the_start_is_logged_with_its_length(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")
    store = SwitchedStore()
    store.is_away = True
    broker = quiet_broker(store)
    task = asyncio.ensure_future(broker.run())
    await until(broker, State.WAITING)
    await asyncio.sleep(30)
    store.is_away = False
    await until(broker, State.SERVING)
    await stop(broker, task)

    waiting = next(each for each in lines(caplog, "state changed") if vars(each)["state"] == "Waiting")
    assert waiting.levelno == logging.WARNING
    assert vars(waiting)["reason"] == "StoreUnreachable"
    left = next(each for each in lines(caplog, "state changed") if vars(each)["before"] == "Waiting")
    assert vars(left)["lasted_s"] >= 29
    assert vars(lines(caplog, "broker ready")[0])["waiting_s"] >= 29
    assert any("failed_s" in vars(each) for each in lines(caplog, "the store works again"))


async def test_reason_that_comes_and_goes_while_serving_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")
    lifecycle = Lifecycle()
    journal = Journal(lifecycle=lifecycle, clock=LoopClock(), settings=quiet_settings(), facts=dict)
    journal.start()
    lifecycle.move(Event.REGISTERED, "recovering")
    lifecycle.move(Event.RECOVERED, "serving")

    lifecycle.set_reason("no answer", Reason.STORE_UNREACHABLE, is_able=False)
    lifecycle.set_reason("no answer, still", Reason.STORE_UNREACHABLE, is_able=False)
    await asyncio.sleep(14)
    lifecycle.set_reason("serving")

    came, went = lines(caplog, "reason changed")
    assert (came.levelno, vars(came)["reason"], vars(came)["ready"]) == (logging.WARNING, "StoreUnreachable", False)
    assert (went.levelno, vars(went)["reason"], vars(went)["lasted_s"]) == (logging.INFO, "none", 14.0)


async def test_what_a_start_does_is_logged_as_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "automq")
    broker = quiet_broker(MemoryStore())
    await stop(broker, await run_until_serving(broker))

    steps = [vars(each)["what"] for each in lines(caplog, "broker goes on")]
    assert "opening partitions" in steps
    assert any(step.startswith("examining") for step in steps)
