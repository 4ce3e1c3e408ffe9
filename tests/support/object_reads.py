"""Reading objects in tests: a reader with budgets of its own, and a store that counts what is fetched."""

from automq.runtime.budget import ByteBudget
from automq.runtime.tasks import Tasks
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import Buffer, ObjectStorage
from automq.s3stream.store.memory import MemoryStore
from tests.support.engine import CLUSTER, HeldStore, LoopClock


class CountedStore(HeldStore):
    """A store in memory that remembers which ranges were asked for."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.ranges: list[tuple[int, int]] = []

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        self.ranges.append((start, end))
        return await super().get_range(key, start, end)

    @property
    def fetched(self) -> int:
        """Bytes that were asked for."""
        return sum(end - start for start, end in self.ranges)


def read_objects(
    store: ObjectStorage,
    *,
    account: ByteBudget | None = None,
    loading: ByteBudget | None = None,
    tasks: Tasks | None = None,
) -> ObjectReader:
    """A reader with budgets of a megabyte, unless there are others."""
    return ObjectReader(
        store=store,
        cluster_id=CLUSTER,
        clock=LoopClock(),
        account=account or ByteBudget(1_000_000),
        loading=loading or ByteBudget(1_000_000),
        tasks=tasks or Tasks("reader", on_crash=_raise),
    )


def _raise(_name: str, error: BaseException) -> None:
    raise error
