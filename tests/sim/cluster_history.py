"""What clients of several brokers did and saw: besides what `history` judges, who answered, and at which leader epoch.

- *double owner*: within one leader epoch two brokers have acknowledged records, or a record that was sent after an
  acknowledgement lies below it or at a lower epoch;
- *high watermark regress*: a leader shows less than it, or a leader of a lower epoch, has shown before it was asked.

A record tells its epoch when it is read back. Who appended it is known only of those that were sent once: a second try
may be answered by a later leader, as what it is, a duplicate.
"""

from dataclasses import dataclass, field

from tests.sim.history import History, Sent
from tests.support.batches import Batch

Address = tuple[str, int]


@dataclass(slots=True)
class ClusterHistory(History):
    """See the module."""

    epochs: list[dict[int, int]] = field(default_factory=list)
    """By partition: base offsets of batches that were read, and their leader epochs."""
    appended_by: list[dict[int, Address]] = field(default_factory=list)
    """By partition: base offsets of batches that were sent once, and who acknowledged them."""
    shown: list[dict[int, int]] = field(default_factory=list)
    """By partition and leader epoch: the highest high watermark that was shown."""

    def __post_init__(self) -> None:
        History.__post_init__(self)
        self.epochs = [{} for _ in range(self.partitions)]
        self.appended_by = [{} for _ in range(self.partitions)]
        self.shown = [{} for _ in range(self.partitions)]

    def acknowledge(self, sent: Sent, offset: int | None, *, by: Address | None = None) -> None:
        if offset is not None and by is not None and sent.tries == 1:
            self.appended_by[sent.partition][offset] = by
            if offset < sent.least_offset:
                self.violation(
                    f"double owner: {by[0]} put {sent.lane} {sent.first} at offset {offset} of partition "
                    f"{sent.partition}; offsets below {sent.least_offset} were durable before it was sent"
                )
        History.acknowledge(self, sent, offset, by=by)

    def read(self, partition: int, position: int, batch: Batch, *, reader: str) -> int:
        known = self.epochs[partition].setdefault(batch.base_offset, batch.leader_epoch)
        if known != batch.leader_epoch:
            self.violation(
                f"{reader}: partition {partition} offset {batch.base_offset} is of leader epoch {batch.leader_epoch}, "
                f"and was of {known}"
            )
        return History.read(self, partition, position, batch, reader=reader)

    def expect_high_watermark(self, partition: int, epoch: int) -> int:
        return max((offset for at, offset in self.shown[partition].items() if at <= epoch), default=0)

    def saw_high_watermark(self, partition: int, offset: int, *, epoch: int = -1, at_least: int = 0) -> None:
        History.saw_high_watermark(self, partition, offset, epoch=epoch, at_least=at_least)
        if epoch >= 0:
            self.shown[partition][epoch] = max(offset, self.shown[partition].get(epoch, 0))


def judge_epochs(history: ClusterHistory) -> None:
    """Compare who acknowledged what with what was read: to be called when everything is read."""
    for partition in range(history.partitions):
        owners: dict[int, Address] = {}
        before = -1
        for offset, epoch in sorted(history.epochs[partition].items()):
            if epoch < before:
                history.violation(f"partition {partition}: leader epoch {epoch} at {offset} follows {before}")
            before = max(before, epoch)
            by = history.appended_by[partition].get(offset)
            if by is None:
                continue
            known = owners.setdefault(epoch, by)
            if known != by:
                history.violation(
                    f"double owner: {known[0]} and {by[0]} both acknowledged records of partition {partition} at "
                    f"leader epoch {epoch}"
                )
