"""A cluster whose store is damaged: what may be lost to that, and what may not, whatever the damage.

world = DamageWorld("name")
... a story: brokers, records ...
before = world.look()                  # what lies in the bucket, what was acknowledged
world.cluster.bucket.vanish(key)       # the damage
await world.judge(before, may_lose)    # a new process starts; whatever it does, this must hold:

refused     it ended with a reason that names damage; every key of `before` lies there as it did, but the lease
served      reading a partition yields, from its start on, what was acknowledged there, up to its end or to an error
            that says so; never another value, never an empty answer, never OFFSET_OUT_OF_RANGE; nothing acknowledged is
            gone without such an error, but what `may_lose` names; what is appended now gets no offset that was given
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from automq.protocol.errors import ErrorCode
from automq.s3stream.model import StreamError
from automq.s3stream.wal.format import Slot, decode_slot, parse_slot_key
from automq.server.lifecycle.states import Reason
from tests.sim.actors import RETRIABLE, Producer
from tests.sim.broker_world import TOPIC, BrokerWorld
from tests.sim.history import names_of
from tests.support.batches import parse_batches
from tests.support.client import EARLIEST, LATEST, CallFailed, ErrorAnswered, SimClient
from tests.support.cluster import Incarnation

REFUSALS = frozenset({Reason.STORE_DAMAGED, Reason.STORE_UNSUITABLE, Reason.STORE_CLUSTER_MISSING})
REPORTS = frozenset({ErrorCode.CORRUPT_MESSAGE, ErrorCode.KAFKA_STORAGE_ERROR})
"""What a client may be told of damage."""
START_S = 90.0
ANSWER_S = 20.0
STOPS_WITHIN_S = 5.0


@dataclass(slots=True, kw_only=True)
class Before:
    """The moment before the damage."""

    at: float
    bodies: Mapping[str, bytes]
    acknowledged: Mapping[tuple[int, int], bytes]
    """By partition and offset."""
    slots: Mapping[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """What each WAL slot holds of the topic: partition, first offset, end offset."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What reading one partition came to."""

    start: int
    end: int
    values: dict[int, bytes]
    error: ErrorCode | None = None
    error_at: int | None = None


class DamageWorld(BrokerWorld):
    """See the module."""

    facts_lost = False
    """Whether the newest slots of the metadata log are gone, and nothing behind them shows it."""

    async def check(self) -> None:
        """Nothing is healthy here by itself: each story says what must hold."""
        self.cluster.close()

    def look(self) -> Before:
        """What lies in the bucket, and what was acknowledged."""
        bucket = self.cluster.bucket
        bodies = {key: bucket.body(key) for key in bucket.find()}
        acknowledged = {
            (sent.partition, sent.offset + place): value
            for lane in self.history.lanes.values()
            for sent in lane
            if sent.acknowledged and sent.offset is not None
            for place, value in enumerate(sent.values)
        }
        slots = {key: self._content(key, body) for key, body in bodies.items() if parse_slot_key(key) is not None}
        return Before(at=self.loop.time(), bodies=bodies, acknowledged=acknowledged, slots=slots)

    def _content(self, key: str, body: bytes) -> list[tuple[int, int, int]]:
        slot_id = parse_slot_key(key)
        assert slot_id is not None
        image = next(made.broker.image for made in reversed(self.cluster.incarnations) if made.broker.image is not None)
        topic = image.topic(TOPIC)
        partitions = {} if topic is None else {partition.stream: partition.index for partition in topic.partitions}
        try:
            slot: Slot = decode_slot(slot_id, memoryview(body))
        except StreamError:
            return []
        return [
            (partitions[record.stream], record.base_offset, record.end_offset)
            for record in slot.records
            if record.stream in partitions
        ]

    def lost_with(self, before: Before, keys: Collection[str]) -> set[tuple[int, int]]:
        """Partitions and offsets of what those WAL slots held."""
        return {
            (partition, offset)
            for key in keys
            for partition, start, end in before.slots.get(key, [])
            for offset in range(start, end)
        }

    async def judge(
        self, before: Before, may_lose: Collection[tuple[int, int]] = (), *, may_refuse: bool = True
    ) -> Incarnation:
        """Start a process on what is left, and hold it to what the module says."""
        made = self.cluster.start(expected=REFUSALS if may_refuse else ())
        try:
            async with asyncio.timeout(START_S):
                while not made.ended and not made.is_serving:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            state = made.broker.lifecycle if made.broker else None
            self.cluster.violation(f"{START_S} s after its start it neither serves nor ends: {state and state.message}")
            return made
        if made.ended:
            if made.reason is Reason.FENCED:
                self.cluster.violation("it ended as fenced, and nobody else has run")
            self.check_untouched(before)
        else:
            await self.judge_served(before, may_lose)
        return made

    def check_untouched(self, before: Before) -> None:
        """Nothing that lay there has been deleted or overwritten since, but by the damage itself."""
        bucket = self.cluster.bucket
        for when, name, key in self.cluster.writes:
            if when > before.at and name == "delete" and key in before.bodies:
                self.cluster.violation(f"{key} was deleted at {when:.1f}, after the damage")
            if when > before.at and name == "put" and not key.endswith("/meta/lease") and key in before.bodies:
                self.cluster.violation(f"{key} was overwritten at {when:.1f}, after the damage")
        if not bucket.find() and before.bodies:
            self.cluster.trace("the bucket is empty")

    async def judge_served(self, before: Before, may_lose: Collection[tuple[int, int]]) -> None:
        """Read everything, and append to everything."""
        admin = self.again()
        forgiven = set(may_lose)
        for partition, log in enumerate(self.history.seen):
            # Offsets of what is lost without a trace may be given again: nobody can know them.
            for offset in range(len(log)):
                if (partition, offset) in forgiven:
                    log[offset] = None
        readings = [await self._read(admin, partition) for partition in range(self.history.partitions)]
        quarantined = await self._append()
        for partition, found in enumerate(readings):
            if found is None:
                continue
            if partition in quarantined and found.error is None:
                # What lies above its end is kept for a person, and everybody who appends is told.
                found.error, found.error_at = quarantined[partition], found.end
            for offset, value in found.values.items():
                known = before.acknowledged.get((partition, offset))
                if known not in (None, value) and (partition, offset) not in forgiven:
                    self.cluster.violation(f"partition {partition} offset {offset} was {known!r} and is {value!r}")
            for (index, offset), value in before.acknowledged.items():
                if index != partition or offset in found.values or (index, offset) in forgiven:
                    continue
                if offset < found.start and offset < self.history.trims[partition]:
                    continue
                if found.error_at is None or offset < found.error_at:
                    self.cluster.violation(
                        f"partition {partition} offset {offset} ({value.decode()}) is gone without an error; the "
                        f"partition is [{found.start}, {found.end}), its error {found.error} at {found.error_at}"
                    )
                    break

    async def _read(self, admin: SimClient, partition: int) -> Found | None:
        start = await self._asked(admin, lambda: admin.list_offset(TOPIC, partition, EARLIEST))
        end = await self._asked(admin, lambda: admin.list_offset(TOPIC, partition, LATEST))
        if not isinstance(start, int) or not isinstance(end, int):
            # A partition that cannot be opened says so to everybody: that is a report, too.
            report = start if isinstance(start, ErrorCode) else end
            if report not in REPORTS:
                self.cluster.violation(f"partition {partition} is not opened: {report}")
                return None
            return Found(start=0, end=0, values={}, error=report, error_at=0)
        found = Found(start=start, end=end, values={})
        position = start
        while position < end:
            answer = await self._asked(
                admin,
                lambda at=position: admin.fetch(TOPIC, partition, at, max_bytes=1_000_000, max_wait_ms=100),
                enough=lambda data: bool(data.records),
            )
            if isinstance(answer, ErrorCode):
                found.error, found.error_at = answer, position
                if answer not in REPORTS:
                    self.cluster.violation(f"partition {partition} at {position}: {answer.name}")
                break
            if answer is None:
                self.cluster.violation(f"partition {partition} at {position}: nothing and no error for {ANSWER_S} s")
                break
            for batch in parse_batches(answer.records):
                found.values.update((batch.base_offset + place, value) for place, value in enumerate(names_of(batch)))
                position = max(position, batch.end_offset)
        if found.error is None:
            # Where acknowledged records may lie behind the end, a reader that stands there is told so.
            answer = await self._asked(
                admin, lambda: admin.fetch(TOPIC, partition, end, max_bytes=1_000_000, max_wait_ms=100)
            )
            if isinstance(answer, ErrorCode) and answer in REPORTS:
                found.error, found.error_at = answer, end
        return found

    async def _asked(self, admin: SimClient, ask, *, enough=lambda answer: True):
        """The answer; an ErrorCode that stays; None when there is neither for a while."""
        last: ErrorCode | None = None
        deadline = self.loop.time() + ANSWER_S
        while self.loop.time() < deadline:
            try:
                answer = await ask()
            except CallFailed:
                pass
            except ErrorAnswered as error:
                last = error.code
                if last not in RETRIABLE:
                    return last
            else:
                last = None
                if enough(answer):
                    return answer
            admin.leaders.clear()
            await asyncio.sleep(0.3)
        return last

    async def _append(self) -> dict[int, ErrorCode]:
        """Somebody new appends to every partition; those that take nothing, and what they say.

        What is acknowledged has offsets of its own: the history sees to that.
        """
        process, client = self.client("after the damage")
        producer = Producer(
            client, self.dice, self.history, name="after", topic=TOPIC, partitions=range(self.history.partitions)
        )
        # Where nothing shows that the newest facts are lost, a producer id may have been given twice.
        producer.tolerated = REPORTS | ({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER} if self.facts_lost else set())
        sending = [process.spawn(self._try(producer, partition)) for partition in range(self.history.partitions)]
        await asyncio.gather(*sending)
        return {
            partition: code
            for partition, code in producer.refused_with.items()
            if code in REPORTS and not self.history.lanes[f"after/{partition}"][0].acknowledged
        }

    async def _try(self, producer: Producer, partition: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await producer.send(partition, 2)
        except TimeoutError:
            self.cluster.trace("no append to", partition)

    def check_stops(self, lost_at: float) -> None:
        """Acknowledging has stopped within some seconds of a loss."""
        late = [
            (sent.lane, sent.acknowledged_at)
            for lane in self.history.lanes.values()
            for sent in lane
            if sent.acknowledged and sent.acknowledged_at > lost_at + STOPS_WITHIN_S
        ]
        if late:
            self.cluster.violation(
                f"{len(late)} batches were acknowledged more than {STOPS_WITHIN_S} s after the loss, the last one "
                f"{late[-1][1] - lost_at:.1f} s after it"
            )
