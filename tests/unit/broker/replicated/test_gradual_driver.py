"""A command in several turns is one command: nobody decides, looks or publishes between its parts."""

import asyncio
from collections.abc import Generator, Iterator, Sequence

import pytest

from automq.replicated.driver import GradualDriver
from automq.replicated.machine import Decision, LogBusy, LogFailed, LogFenced


class Words:
    """A machine whose records are words, applied letter by letter."""

    def __init__(self) -> None:
        self.text = ""
        self.is_partial = False

    def replay(self, record: str) -> None:
        for _turn in self.turns(record):
            pass

    def turns(self, record: str) -> Iterator[None]:
        for letter in record:
            self.is_partial = True
            self.text += letter
            yield
        self.is_partial = False


class ManualLog:
    """Appends become durable when the test says so."""

    def __init__(self) -> None:
        self.appends: list[tuple[Sequence[str], asyncio.Future[None]]] = []
        self.refusal: Exception | None = None
        self.confirms_at_once = False

    def append(self, records: Sequence[str]) -> asyncio.Future[None]:
        if self.refusal is not None:
            raise self.refusal
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.appends.append((tuple(records), future))
        if self.confirms_at_once:
            asyncio.get_running_loop().call_soon(future.set_result, None)
        return future

    def append_in_turns(self, records: Sequence[str]) -> Generator[int | None, None, asyncio.Future[None]]:
        for _ in records:
            yield None
        return self.append(records)


class Fixture:
    def __init__(self) -> None:
        self.machine, self.log = Words(), ManualLog()
        self.published: list[str] = []
        self.driver: GradualDriver[str, str] = GradualDriver(
            self.machine, self.log, capture=self.capture, publish=self.published.append
        )

    def capture(self) -> str:
        assert not self.machine.is_partial
        return self.machine.text

    def say(self, *words: str) -> "asyncio.Task[str]":
        def decide() -> Generator[None, None, Decision[str, str]]:
            before = self.machine.text
            for _ in words:
                yield
                assert self.machine.text == before
            return Decision(words, before)

        return asyncio.get_running_loop().create_task(self.driver.call_in_turns(decide))

    def look(self) -> "asyncio.Task[str]":
        def decide() -> Decision[str, str]:
            assert not self.machine.is_partial
            return Decision((), self.machine.text)

        return asyncio.get_running_loop().create_task(self.driver.call(decide))

    def add(self, word: str) -> "asyncio.Task[str]":
        return asyncio.get_running_loop().create_task(self.driver.call(lambda: Decision((word,), self.machine.text)))


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def fixture() -> Fixture:
    return Fixture()


@pytest.mark.parametrize("at", range(14))
async def test_a_command_and_a_look_come_before_or_after_never_between(fixture: Fixture, at: int) -> None:
    fixture.log.confirms_at_once = True
    long = fixture.say("abc", "def")
    await turns(at)
    look, add = fixture.look(), fixture.add("x")
    assert await long == ""
    assert await look in ("", "abcdef")
    assert await add == await look
    assert fixture.machine.text in ("xabcdef", "abcdefx")
    assert fixture.published[-1] == fixture.machine.text
    assert [records for records, _ in fixture.log.appends] in (
        [("abc", "def"), ("x",)],
        [("x",), ("abc", "def")],
    )


async def test_all_its_records_are_one_append_and_one_publication(fixture: Fixture) -> None:
    reply = fixture.say("abc", "def")
    await turns(20)
    assert [records for records, _ in fixture.log.appends] == [("abc", "def")]
    assert not reply.done()
    assert fixture.published == []
    fixture.log.appends[0][1].set_result(None)
    assert await reply == ""
    assert fixture.published == ["abcdef"]


@pytest.mark.parametrize("at", range(12))
async def test_published_in_order_though_durable_before_it_is_applied(fixture: Fixture, at: int) -> None:
    first = fixture.add("first ")
    await turns(1)
    second = fixture.say("second ")
    await turns(at)
    for _, future in list(fixture.log.appends):
        future.set_result(None)
    await turns(20)
    for _, future in fixture.log.appends:
        if not future.done():
            future.set_result(None)
    replies = [await first, await second]
    assert replies == ["", "first "]
    assert fixture.published == ["first ", "first second "]


async def test_published_before_it_is_answered(fixture: Fixture) -> None:
    fixture.log.confirms_at_once = True
    seen: list[list[str]] = []
    reply = fixture.say("word")
    reply.add_done_callback(lambda _: seen.append(list(fixture.published)))
    await reply
    await turns(1)
    assert seen == [["word"]]


@pytest.mark.parametrize("at", range(1, 12))
async def test_cancelled_it_is_whole_or_nothing(fixture: Fixture, at: int) -> None:
    fixture.log.confirms_at_once = True
    reply = fixture.say("abc", "def")
    await turns(at)
    is_done = reply.done()
    reply.cancel()
    await turns(20)
    assert fixture.machine.text == ("abcdef" if fixture.log.appends else "")
    assert fixture.published == ([fixture.machine.text] if fixture.log.appends else [])
    assert is_done or reply.cancelled() or bool(fixture.log.appends)
    assert await fixture.add("x") == fixture.machine.text[:-1]


async def test_a_refused_append_changes_nothing(fixture: Fixture) -> None:
    fixture.log.refusal = LogBusy("later")
    with pytest.raises(LogBusy):
        await fixture.say("abc")
    assert fixture.machine.text == ""
    fixture.log.refusal = None
    fixture.log.confirms_at_once = True
    assert await fixture.say("abc") == ""


async def test_a_log_that_fails_meanwhile_fails_the_command(fixture: Fixture) -> None:
    reply = fixture.say("abc", "def")
    await turns(6)
    assert fixture.log.appends
    fixture.log.appends[0][1].set_exception(LogFenced("newer"))
    waiting = fixture.add("x")
    with pytest.raises(LogFenced):
        await reply
    with pytest.raises(LogFenced):
        await waiting
    assert fixture.published == []


async def test_the_driver_dies_while_it_is_decided(fixture: Fixture) -> None:
    reply = fixture.say("abc", "def")
    await turns(2)
    fixture.driver.fail(LogFailed("closed"))
    with pytest.raises(LogFailed):
        await reply
    assert not fixture.log.appends


async def test_an_error_of_the_decision_waits_for_what_it_saw(fixture: Fixture) -> None:
    added = fixture.add("x")
    await turns(1)

    def decide() -> Generator[None, None, Decision[str, str]]:
        yield
        raise KeyError(fixture.machine.text)

    refused = asyncio.get_running_loop().create_task(fixture.driver.call_in_turns(decide))
    await turns(5)
    assert not refused.done()
    fixture.log.appends[0][1].set_result(None)
    await added
    with pytest.raises(KeyError, match="x"):
        await refused
