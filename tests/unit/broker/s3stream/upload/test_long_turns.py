"""Recovery beside serving: bounded turns of the event loop, however much there is."""

from collections.abc import Awaitable, Callable

from automq.ids import BrokerEpoch, NodeId
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.memory import MemoryStore
from tests.support.dead_logs import fill_log
from tests.support.engine import NODE, Engine, Ledger
from tests.support.turns import check_turns

MIB = 1024 * 1024


async def test_b6_recovery_of_small_batches_is_bounded_turns() -> None:
    async def prepare() -> Callable[[], Awaitable[object]]:
        ledger, store = Ledger(), MemoryStore()
        slots = await fill_log(store, ledger, size=12 * MIB)
        engine = Engine(ledger, store, epoch=2, settings=StorageSettings())
        ledger.fence((NODE, BrokerEpoch(1)), engine.me)

        async def work() -> None:
            recovered = await engine.storage.recover(NodeId(NODE), BrokerEpoch(1), 0)
            assert recovered.fence == slots
            assert not recovered.unplaced
            ends = {state.end for state in ledger.streams.values()}
            assert sum(state.end for state in ledger.streams.values()) == -(-12 * MIB // 120)
            assert max(ends) - min(ends) <= 1

        return work

    await check_turns(prepare)
