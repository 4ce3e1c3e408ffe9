"""Recovery beside serving: bounded turns of the event loop, however much there is."""

from collections.abc import Awaitable, Callable

from automq.ids import BrokerEpoch, NodeId
from automq.runtime.ledger import Account
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

        account, peak = engine.memory[Account.RECOVERY], 0
        charge = account.charge

        def watched(amount: int) -> None:
            nonlocal peak
            charge(amount)
            peak = max(peak, account.used)

        account.charge = watched  # type: ignore[method-assign]

        async def work() -> None:
            recovered = await engine.storage.recover(NodeId(NODE), BrokerEpoch(1), 0)
            assert recovered.fence == slots
            assert not recovered.unplaced
            assert account.limit // 2 < peak <= account.limit
            assert not account.used
            ends = {state.end for state in ledger.streams.values()}
            assert sum(state.end for state in ledger.streams.values()) == -(-12 * MIB // 120)
            assert max(ends) - min(ends) <= 1

        return work

    await check_turns(prepare)
