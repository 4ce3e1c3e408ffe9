"""A broker's partitions on a store that a test damages, and what clients, metrics and the log tell of it."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from automq.ids import Offset
from automq.metadata.image import QuarantineCause
from automq.partition.partition import Partition
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.records import RecordBatch
from automq.s3stream.objects.format import BlockKind, object_key
from automq.s3stream.store.memory import MemoryStore
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, fetch_request, produce_request
from tests.support.engine import CLUSTER, Engine, HeldStore

FETCH, PRODUCE, LIST_OFFSETS = 12, 9, 7
OTHER = "payments"


def a_payload(sequence: int, *, producer_id: int = 7, timestamp_ms: int = 0) -> memoryview:
    batch = build_batch(
        [f"value {sequence}".encode()],
        timestamp_ms=timestamp_ms,
        producer_id=producer_id,
        producer_epoch=0,
        base_sequence=sequence,
    )
    return memoryview(bytearray(batch))


class World:
    """Two topics of one partition each, whose records only objects hold: four batches an object."""

    def __init__(self, path: DataPath) -> None:
        self.path = path

    @classmethod
    async def made(cls, batches: int = 12, *, per_object: int = 4, store: HeldStore | None = None) -> "World":
        path = await DataPath(store=store or HeldStore(MemoryStore())).start()
        world = cls(path)
        for name in (TOPIC, OTHER):
            path.create_topic(name)
        for number in range(batches):
            for name in (TOPIC, OTHER):
                world.partition(name).append(a_payload(number, timestamp_ms=number * 10))
            if number % per_object == per_object - 1:
                await path.engine.storage.upload.flush()
        while path.engine.storage.append.cache.evict():
            pass
        return world

    def partition(self, name: str = TOPIC) -> Partition:
        return self.path.partitions.get(name, 0)

    def key_at(self, offset: int, name: str = TOPIC) -> str:
        stream = self.partition(name).stream_id
        spans = self.path.engine.objects.spans(stream, Offset(offset), Offset(offset + 1), limit=1)
        return object_key(CLUSTER, spans[0].object_id)

    async def damage(self, key: str, change: Callable[[bytearray], None]) -> None:
        data = bytearray(await self.path.store.get(key))
        change(data)
        await self.path.store.put(key, [data])

    async def damage_batch(self, number: int) -> None:
        """One bit of the batch at offset `number` of the first topic, whose stream lies first in the object."""
        text = f"value {number}".encode()
        await self.damage(
            self.key_at(number), lambda data: data.__setitem__(data.index(text), data[data.index(text)] ^ 1)
        )

    async def damage_checkpoint(self, offset: int) -> None:
        """One bit of the first topic's checkpoint in the object that holds `offset`."""
        stream = self.partition().stream_id
        (span,) = self.path.engine.objects.spans(stream, Offset(offset), Offset(offset + 1), limit=1)
        entry = await self.path.engine.storage.read.reader.index.checkpoint_entry(
            span.object_id, span.object_size, stream, span.end
        )
        assert entry is not None
        assert entry.kind is BlockKind.CHECKPOINT
        await self.damage(self.key_at(offset), lambda data: flip(data, entry.position + 9))

    async def restarted(self) -> "World":
        """The next incarnation, on what is there."""
        path = self.path
        await path.engine.die()
        await path.tasks.close()
        engine = Engine(path.ledger, path.store, epoch=2)
        await engine.recover(path.engine)
        again = DataPath(engine=engine, store=path.store)
        again.metadata.replace(path.metadata.image)
        return World(await again.start())

    async def fetched(self, offset: int, name: str = TOPIC) -> tuple[ErrorCode, list[int]]:
        """The code and the offsets of one Fetch."""
        answer = await self.path.connect().call(ApiKey.FETCH, FETCH, fetch_request(offset, topic=name))
        (result,) = answer.responses[0].partitions
        records = memoryview(bytes(result.records or b""))
        bases: list[int] = []
        while records:
            batch = RecordBatch(records)
            bases.extend(range(batch.base_offset, batch.base_offset + batch.record_count))
            records = records[batch.size :]
        return ErrorCode(result.error_code), bases

    async def consumed(self, name: str = TOPIC, start: int = 0) -> tuple[list[int], ErrorCode, int]:
        """What a consumer gets, the code that stops it, and where it stands then."""
        offsets: list[int] = []
        while True:
            code, some = await self.fetched(start, name)
            if code or not some:
                return offsets, code, start
            offsets += some
            start = some[-1] + 1

    async def produced(self, name: str = TOPIC) -> ErrorCode:
        batch = build_batch([b"more"], timestamp_ms=0)
        answer = await self.path.connect().call(ApiKey.PRODUCE, PRODUCE, produce_request(batch, topic=name))
        return ErrorCode(answer.responses[0].partition_responses[0].error_code)

    def metric(self, name: str, **labels: str) -> float:
        return self.path.engine.metrics.registry.get_sample_value(name, labels) or 0.0

    def quarantine(self, *causes: QuarantineCause) -> None:
        """What the metadata say of the first topic's stream."""
        image = self.path.metadata.image
        stream = self.partition().stream_id
        changed = image.quarantines.set(stream, causes) if causes else image.quarantines.delete(stream)
        self.path.publish(replace(image, quarantines=changed))


def flip(data: bytearray, position: int) -> None:
    data[position] ^= 1


def lines(caplog: pytest.LogCaptureFixture, phrase: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if phrase in record.getMessage()]


async def lost(world: World, *ranges: tuple[int, int], end: int) -> World:
    ledger, stream = world.path.ledger, world.partition().stream_id
    ledger.give_up(stream, *ranges)
    ledger.change(stream, end=Offset(end))
    return await world.restarted()
