"""Who is told of a change, and in which order."""

import asyncio

from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.image import EMPTY
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import ConfigChanged, MetadataRecord, ObjectsPrepared
from automq.metadata.replay import MetadataMachine

ONE, TWO = EMPTY.with_record_number(1), EMPTY.with_record_number(2)


def test_subscribers_are_told_old_and_new_in_order() -> None:
    publisher, told = MetadataPublisher(), list[tuple[str, int, int]]()

    def note(name: str, change: MetadataChange) -> None:
        assert publisher.image is change.new
        told.append((name, change.old.record_number, change.new.record_number))

    publisher.subscribe(lambda change: note("first", change))
    end = publisher.subscribe(lambda change: note("second", change))
    publisher.replace(ONE)
    end()
    end()
    publisher.replace(TWO)

    assert told == [("first", 0, 1), ("second", 0, 1), ("first", 1, 2)]


def test_the_same_image_is_no_change() -> None:
    publisher, told = MetadataPublisher(ONE), list[int]()
    publisher.subscribe(lambda change: told.append(1))
    publisher.replace(ONE)
    assert told == []


def test_b5_an_unrelated_record_calls_no_subscriber() -> None:
    machine = MetadataMachine(EMPTY, remembers=True)
    publisher, told = MetadataPublisher(machine.image), list[str]()
    for aspect in Aspect:
        publisher.subscribe(lambda change, aspect=aspect: told.append(aspect.name), to=(aspect,))
    config: MetadataRecord = ConfigChanged(resource_type=2, resource_name="t", changes=(("retention.ms", "1"),))

    machine.replay(ObjectsPrepared(first=1, count=3, node=NodeId(1), epoch=BrokerEpoch(1), expires_ms=0))
    publisher.publish(machine.take_change())
    assert told == []

    machine.replay(config)
    publisher.publish(machine.take_change())
    # The very same value again is a new map of the library, and no change.
    machine.replay(ConfigChanged(resource_type=2, resource_name="t", changes=()))
    publisher.publish(machine.take_change())
    assert told == ["CONFIGS"]


def test_a_synthetic_change_names_what_differs() -> None:
    publisher, seen = MetadataPublisher(), list[MetadataChange]()
    machine = MetadataMachine(EMPTY)
    machine.replay(ConfigChanged(resource_type=2, resource_name="b", changes=(("x", "1"),)))
    machine.replay(ConfigChanged(resource_type=2, resource_name="a", changes=(("x", "1"),)))
    publisher.subscribe(seen.append)
    publisher.replace(machine.image)

    (change,) = seen
    assert list(change.configs) == [(2, "a"), (2, "b")]
    assert not change.records
    assert not change.topics
    assert StreamId(1) not in change.streams


async def test_whoever_waits_is_told_after_the_subscribers() -> None:
    machine = MetadataMachine(EMPTY, remembers=True)
    publisher = MetadataPublisher(EMPTY)
    order: list[str] = []

    async def wait(record_number: int) -> None:
        await publisher.wait(record_number)
        assert publisher.image.record_number >= record_number
        order.append(f"waited for {record_number}")

    await publisher.wait(0)
    waiting = [asyncio.ensure_future(wait(number)) for number in (2, 1, 2)]
    gone = asyncio.ensure_future(publisher.wait(1))
    await asyncio.sleep(0)
    gone.cancel()
    publisher.subscribe(lambda change: order.append(f"told of {change.new.record_number}"))
    for number in (1, 2):
        machine.replay(ConfigChanged(2, "t", (("retention.ms", str(number)),)))
        publisher.publish(machine.take_change())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert order == ["told of 1", "waited for 1", "told of 2", "waited for 2", "waited for 2"]
    await asyncio.gather(*waiting)
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
