"""What the clients of a simulation did and saw, and whether that can be true of a log that keeps its word.

Every record's value names its producer, its partition and its number: `p1/0/17`. A *lane* is what one producer sends to
one partition: numbers from 0 on, without a hole, because the producer is idempotent and retries until it succeeds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.batches import Batch

PADDING = b"|"


def padded(value: bytes, size: int) -> bytes:
    """A record as it is sent: some runs carry weight, so that memory runs out."""
    return value + PADDING.ljust(size, b".") if size else value


def names_of(batch: Batch) -> list[bytes]:
    """What the records of a batch say, without their padding."""
    return [value.partition(PADDING)[0] for value in batch.values]


@dataclass(slots=True)
class Sent:
    """A batch that a producer has sent at least once."""

    lane: str
    partition: int
    first: int
    count: int
    offset: int | None = None
    acknowledged: bool = False
    acknowledged_at: float = 0.0
    least_offset: int = 0
    """Everything below it was durable before the batch was sent."""
    tries: int = 0
    """How often it was sent."""

    @property
    def values(self) -> list[bytes]:
        """The records."""
        return [f"{self.lane}/{number}".encode() for number in range(self.first, self.first + self.count)]


@dataclass(slots=True)
class History:
    """Facts about one topic. Methods that learn something add to `violations` what contradicts it."""

    partitions: int
    violations: list[str] = field(default_factory=list)
    lanes: dict[str, list[Sent]] = field(default_factory=dict)
    seen: list[list[bytes | None]] = field(default_factory=list)
    """By partition and offset: the value a reader got there."""
    high_watermarks: list[int] = field(default_factory=list)
    trims: list[int] = field(default_factory=list)
    """Up to where somebody has asked to delete: nothing below need exist."""
    trimmed: list[int] = field(default_factory=list)
    """Below it everything was deleted, and that was acknowledged."""
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    """Newest commit of a group that was acknowledged or seen."""
    is_stale: Callable[[tuple[str, int]], bool] = lambda address: False
    """Whether a broker's address is that of a process which somebody has superseded."""
    now: Callable[[], float] = lambda: 0.0
    """The run's time."""

    def __post_init__(self) -> None:
        self.seen = [[] for _ in range(self.partitions)]
        self.high_watermarks = [0] * self.partitions
        self.trims = [0] * self.partitions
        self.trimmed = [0] * self.partitions

    @property
    def acknowledged_records(self) -> int:
        """Records that must exist."""
        return sum(sent.count for lane in self.lanes.values() for sent in lane if sent.acknowledged)

    def violation(self, what: str) -> None:
        """Something that must not be."""
        if len(self.violations) < 20:
            self.violations.append(what)

    def send(self, producer: str, partition: int, count: int) -> Sent:
        """The next batch of a lane."""
        name = f"{producer}/{partition}"
        lane = self.lanes.setdefault(name, [])
        first = lane[-1].first + lane[-1].count if lane else 0
        sent = Sent(name, partition, first, count, least_offset=self.high_watermarks[partition])
        lane.append(sent)
        return sent

    def acknowledge(self, sent: Sent, offset: int | None, *, by: tuple[str, int] | None = None) -> None:
        """The broker at `by` says that the batch is there; without an offset it only says that it was there already."""
        if sent.acknowledged and None not in (offset, sent.offset) and offset != sent.offset:
            self.violation(f"{sent.lane} {sent.first}: acknowledged at {sent.offset} and at {offset}")
        if not sent.acknowledged:
            sent.acknowledged_at = self.now()
        sent.acknowledged = True
        if offset is not None:
            sent.offset = offset
            self._place(sent.partition, offset, sent.values, "acknowledged")

    def read(self, partition: int, position: int, batch: Batch, *, reader: str) -> int:
        """A reader at `position` got `batch`; the next position."""
        skipped = position - batch.base_offset
        if skipped < 0:
            self.violation(f"{reader}: partition {partition} jumps from {position} to {batch.base_offset}")
        if batch.end_offset <= position:
            return position
        self._place(partition, batch.base_offset, names_of(batch), reader)
        return batch.end_offset

    def expect_high_watermark(self, partition: int, epoch: int) -> int:
        """What a leader of that epoch shows at least, when it is asked from now on."""
        return 0

    def saw_high_watermark(self, partition: int, offset: int, *, epoch: int = -1, at_least: int = 0) -> None:
        """Offsets below it are durable: so says the leader at `epoch`; `at_least` was expected when it was asked."""
        if offset < at_least:
            self.violation(
                f"high watermark regress: the leader at epoch {epoch} of partition {partition} shows {offset}; "
                f"{at_least} was shown before it was asked"
            )
        self.high_watermarks[partition] = max(self.high_watermarks[partition], offset)

    def commit(self, group: str, partition: int, offset: int) -> None:
        """A commit of the group was acknowledged."""
        key = (group, partition)
        self.committed[key] = max(offset, self.committed.get(key, -1))

    def saw_commit(self, group: str, partition: int, offset: int, *, at_least: int) -> None:
        """The group's committed offset, asked for when `at_least` had been acknowledged or seen."""
        if offset < at_least:
            self.violation(f"group {group}: committed offset of partition {partition} went from {at_least} to {offset}")
        # Whoever committed it may never have heard so; what was shown is a promise all the same.
        self.commit(group, partition, offset)

    def _place(self, partition: int, offset: int, values: list[bytes], who: str) -> None:
        log = self.seen[partition]
        end = offset + len(values)
        if len(log) < end:
            log.extend([None] * (end - len(log)))
        before = log[offset:end]
        for at, (old, new) in enumerate(zip(before, values, strict=True)):
            if old is not None and old != new:
                self.violation(
                    f"{who}: partition {partition} offset {offset + at} is {new.decode()}, and was {old.decode()}"
                )
                break
        log[offset:end] = values


def judge(history: History, *, starts: list[int], ends: list[int], logs: list[list[bytes]]) -> None:
    """Compare what every partition finally holds, offsets [start, end), with what was acknowledged and seen."""
    for partition in range(history.partitions):
        start, end, log = starts[partition], ends[partition], logs[partition]
        if start > history.trims[partition]:
            history.violation(
                f"partition {partition} begins at {start}; nobody deleted above {history.trims[partition]}"
            )
        if start < history.trimmed[partition]:
            history.violation(
                f"resurrect: partition {partition} begins at {start}; records below {history.trimmed[partition]} were "
                "deleted"
            )
        if end < history.high_watermarks[partition]:
            seen = history.high_watermarks[partition]
            history.violation(f"partition {partition} ends at {end}; a reader saw the high watermark {seen}")
        if len(log) != end - start:
            history.violation(f"partition {partition} has {len(log)} records in offsets {start} to {end}")
        for offset, value in enumerate(history.seen[partition]):
            if value is not None and offset >= start and (offset >= end or log[offset - start] != value):
                now = log[offset - start].decode() if offset < end else "nothing"
                history.violation(f"partition {partition} offset {offset} was {value.decode()} and is {now}")
                break
        _judge_lanes(history, partition, start, log)


def _judge_lanes(history: History, partition: int, start: int, log: list[bytes]) -> None:
    numbers: dict[str, list[int]] = {}
    for value in log:
        lane, _, number = value.decode().rpartition("/")
        numbers.setdefault(lane, []).append(int(number))
    for name, lane in history.lanes.items():
        if lane[0].partition != partition:
            continue
        found = numbers.pop(name, [])
        if any(after != before + 1 for before, after in zip(found, found[1:], strict=False)):
            history.violation(f"{name}: duplicate, missing or out of order: {_first_break(found)}")
        acknowledged = [sent for sent in lane if sent.acknowledged]
        # What was sent when the log was as long as its start is now cannot lie below that; nor can what comes after it.
        kept = [sent for sent in acknowledged if sent.least_offset >= start]
        if acknowledged and (kept or found):
            last = acknowledged[-1].first + acknowledged[-1].count - 1
            if not found or found[-1] < last:
                history.violation(f"{name}: record {last} was acknowledged and is missing")
        if found and kept and found[0] > kept[0].first:
            history.violation(f"{name}: records from {kept[0].first} to {found[0]} are missing")
        sent_to = lane[-1].first + lane[-1].count
        if found and found[-1] >= sent_to:
            history.violation(f"{name}: record {found[-1]} was never sent")
    for name in numbers:
        history.violation(f"partition {partition} has records of {name}, who sent none")


def _first_break(numbers: list[int]) -> str:
    for before, after in zip(numbers, numbers[1:], strict=False):
        if after != before + 1:
            return f"{after} follows {before}"
    return ""
