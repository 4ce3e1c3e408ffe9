"""Why a partition takes no appends for now: it is damaged, or it is changing hands."""

from collections.abc import Sequence

from automq.ids import TopicPartition
from automq.metadata.image import QuarantineCause
from automq.partition.damage import Quarantine
from automq.partition.parking import Parking
from automq.partition.producer_state import ProducerState
from automq.protocol.records import CorruptRecords, RecordBatch
from automq.runtime.clock import Clock
from automq.s3stream.model import StoreDamaged, StreamError, StreamQuarantined, StreamSealed
from automq.s3stream.stream import Stream


class BarredPartition:
    """The part of `partition.Partition` that knows of both. `_is_barred` is what every append looks at."""

    __slots__ = (
        "_causes",
        "_clock",
        "_damaged",
        "_is_barred",
        "_producers",
        "_stream",
        "name",
        "parking",
        "quarantine",
    )

    def __init__(self, *, name: TopicPartition, stream: Stream, clock: Clock) -> None:
        self.name, self._stream, self._clock = name, stream, clock
        self._producers = ProducerState()
        self._damaged: StoreDamaged | None = None
        """Records that could not be read when the partition was opened."""
        self._causes: Sequence[QuarantineCause] = ()
        self.quarantine: Quarantine | None = None
        """Why nothing is appended because of damage; None when something may be."""
        self.parking: Parking | None = None
        """Where appends wait while the partition is sealed."""
        self._is_barred = False

    @property
    def is_quarantined(self) -> bool:
        """Whether nothing is appended because of damage."""
        return self.quarantine is not None

    def set_causes(self, causes: Sequence[QuarantineCause]) -> None:
        """Why the metadata say that nothing may be appended; empty when they do not."""
        self._causes = causes
        self._quarantine()

    def _quarantine(self) -> None:
        if self._causes:
            cause = self._causes[0]
            is_end_unknown = any(one.wal is not None for one in self._causes)
            self.quarantine = Quarantine(key=cause.key, reason=cause.reason, is_end_unknown=is_end_unknown)
        elif self._damaged is not None:
            self.quarantine = Quarantine(key=self._damaged.key, reason=str(self._damaged))
        else:
            self.quarantine = None
        self._is_barred = self.quarantine is not None or self.parking is not None

    def seal(self) -> Parking:
        """The stream was sealed in this turn, or will be: what comes is parked."""
        self.parking, self._is_barred = Parking(), True
        return self.parking

    def unseal(self) -> None:
        """The partition stays: what was parked is appended in this turn, in the order in which it came."""
        self._stream.unseal()
        parking, self.parking = self.parking, None
        self._is_barred = self.quarantine is not None
        if parking is not None:
            parking.lift()

    def _bar(self) -> StreamError:
        """Why nothing is appended now."""
        if self.parking is not None:
            return StreamSealed(f"{self.name} is changing hands")
        assert self.quarantine is not None
        return StreamQuarantined(f"{self.name} takes no records: {self.quarantine.reason}", key=self.quarantine.key)

    def refuse(self, records: memoryview) -> None:
        """Rule: after a refusal a producer that is not known here must begin with what was refused.

        Else what it had sent behind that would be taken for its beginning.
        """
        try:
            batch = RecordBatch(records)
        except CorruptRecords:
            return
        if batch.producer_id >= 0:
            now_ms = self._clock.wall_ms()
            self._producers.expect(batch.producer_id, batch.producer_epoch, batch.base_sequence, now_ms)
