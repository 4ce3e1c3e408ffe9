"""Pure: which leader epoch wrote which offsets.

Consumers ask for the end of an epoch to find out whether what they have read is still there. Invariant: epochs and
start offsets both strictly increase.
"""

import bisect
import struct
from typing import Final, NamedTuple

from automq.ids import Offset, TopicPartition
from automq.protocol.errors import ApiError, ErrorCode

# Every start of the owner that is followed by a write adds one; retention takes them away again.
EPOCHS_MAX: Final = 10_000
UNDEFINED: Final = -1
FORMAT: Final = 1

_COUNT = struct.Struct(">BI")
_ENTRY = struct.Struct(">iq")


class EpochEnd(NamedTuple):
    """The largest epoch at or below the one asked for, and the offset it ends before; both -1 when unknown."""

    epoch: int
    end_offset: int


def check_leader_epoch(name: TopicPartition, *, theirs: int, ours: int) -> None:
    """A client's idea of the current leader epoch; -1 when it has none. Raises ApiError."""
    if theirs < 0 or theirs == ours:
        return
    code = ErrorCode.FENCED_LEADER_EPOCH if theirs < ours else ErrorCode.UNKNOWN_LEADER_EPOCH
    raise ApiError(code, f"the leader epoch of {name} is {ours} here")


NO_EPOCH_END: Final = EpochEnd(UNDEFINED, UNDEFINED)


class LeaderEpochs:
    """The epochs of one partition and their first offsets."""

    __slots__ = ("_encoded", "_epochs", "_starts")

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        self._encoded: bytes | None = None
        """What `encode` made, until something changes: it is asked for at every upload, and changes at a start."""

    def entries(self) -> list[tuple[int, int]]:
        """(epoch, first offset), ascending."""
        return list(zip(self._epochs, self._starts, strict=True))

    def assign(self, epoch: int, start: Offset) -> None:
        """From `start` on batches carry `epoch`. An epoch that wrote nothing leaves no trace."""
        if self._epochs and epoch <= self._epochs[-1]:
            return
        self._encoded = None
        while self._starts and self._starts[-1] >= start:
            self._epochs.pop()
            self._starts.pop()
        self._epochs.append(epoch)
        self._starts.append(start)
        if len(self._epochs) > EPOCHS_MAX:
            del self._epochs[0], self._starts[0]

    def trim(self, log_start: Offset) -> None:
        """Forget epochs that end at or before `log_start`; the one it lies in begins there."""
        keep = bisect.bisect_right(self._starts, log_start) - 1
        if keep >= 0:
            self._encoded = None
            del self._epochs[:keep], self._starts[:keep]
            self._starts[0] = log_start

    def epoch_of(self, offset: int) -> int:
        """The epoch that wrote `offset`; -1 when it lies before the first one known."""
        index = bisect.bisect_right(self._starts, offset) - 1
        return self._epochs[index] if index >= 0 else UNDEFINED

    def end_of(self, epoch: int, log_end: Offset) -> EpochEnd:
        """Where `epoch` ended, or the one before it if it wrote nothing."""
        if epoch == UNDEFINED or not self._epochs or epoch > self._epochs[-1]:
            return NO_EPOCH_END
        if epoch == self._epochs[-1]:
            return EpochEnd(epoch, log_end)
        index = bisect.bisect_right(self._epochs, epoch)
        if index == 0:
            return EpochEnd(epoch, self._starts[0])
        return EpochEnd(self._epochs[index - 1], self._starts[index])

    @property
    def size(self) -> int:
        """Bytes of `encode`."""
        return _COUNT.size + _ENTRY.size * len(self._epochs)

    def encode(self) -> bytes:
        """For the checkpoint: format u8, count u32, then each epoch i32 and first offset i64."""
        if self._encoded is None:
            entries = b"".join(_ENTRY.pack(*entry) for entry in self.entries())
            self._encoded = _COUNT.pack(FORMAT, len(self._epochs)) + entries
        return self._encoded

    @classmethod
    def decode(cls, data: bytes | memoryview) -> "LeaderEpochs":
        """What `encode` wrote. Raises ValueError or struct.error when it is something else."""
        version, count = _COUNT.unpack_from(data)
        if version != FORMAT:
            raise ValueError(f"leader epochs have format {version}, this program reads {FORMAT}: upgrade it")
        result = cls()
        for index in range(count):
            epoch, start = _ENTRY.unpack_from(data, _COUNT.size + index * _ENTRY.size)
            result.assign(epoch, Offset(start))
        return result
