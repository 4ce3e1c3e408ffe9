"""Random damage: a cluster works for some seconds and is killed; something happens to the bucket; it starts again.

`python -m tests.sim --damage --seeds N`. What may be lost follows from what was damaged: see `Damage`.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automq.s3stream.wal.format import SlotId, parse_slot_key
from tests.sim import coverage
from tests.sim.damage_world import Before, DamageWorld
from tests.sim.world import Outcome, logs_to
from tests.support.cluster import Cluster
from tests.support.damage import Bucket
from tests.support.sim_loop import run_world

Lost = set[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Damage:
    """One kind. `do` damages the bucket and returns which keys it took, and what may be lost without a word."""

    name: str
    do: Callable[["DamageWorld", Before, random.Random], tuple[list[str], Lost] | None]


def spoil(bucket: Bucket, key: str, dice: random.Random) -> str:
    """Something happens to the bytes of `key`; what."""
    size = len(bucket.body(key))
    how = dice.choice(("flipped", "cut", "emptied", "gone"))
    if how == "flipped":
        bucket.flip(key, dice.randrange(size), bit=dice.randrange(8))
    elif how == "cut":
        bucket.cut(key, dice.randrange(size))
    elif how == "emptied":
        bucket.cut(key, 0)
    else:
        bucket.vanish(key)
    return how


def one_of(part: str) -> Callable[[DamageWorld, Before, random.Random], tuple[list[str], Lost] | None]:
    """Any key of a folder is spoiled."""

    def do(world: DamageWorld, before: Before, dice: random.Random) -> tuple[list[str], Lost] | None:
        keys = world.cluster.bucket.find(part)
        if not keys:
            return None
        # The newest matters most, and a random one seldom is it.
        key = dice.choice((keys[-1], dice.choice(keys)))
        how = spoil(world.cluster.bucket, key, dice)
        return [f"{key} is {how}"], set()

    return do


def wal_slots(before: Before) -> list[tuple[SlotId, str]]:
    """Slots of the newest log that has any, in order."""
    parsed = [(slot, key) for key in before.slots if (slot := parse_slot_key(key)) is not None]
    newest = max((slot.epoch for slot, _ in parsed), default=None)
    return sorted((item for item in parsed if item[0].epoch == newest), key=lambda item: item[0].sequence)


def newest_slots(world: DamageWorld, before: Before, dice: random.Random) -> tuple[list[str], Lost] | None:
    """The newest slots are gone, with nothing behind them: nobody can know, and only their records may be lost."""
    slots = wal_slots(before)
    if not slots:
        return None
    gone = [key for _, key in slots[-dice.randint(1, len(slots)) :]]
    for key in gone:
        world.cluster.bucket.vanish(key)
    return [f"{key} is gone" for key in gone], world.lost_with(before, gone)


def a_slot_in_between(world: DamageWorld, before: Before, dice: random.Random) -> tuple[list[str], Lost] | None:
    """Slots are gone with others behind them."""
    slots = wal_slots(before)
    if len(slots) < 2:
        return None
    first = dice.randrange(len(slots) - 1)
    gone = [key for _, key in slots[first : dice.randint(first + 1, len(slots) - 1)]]
    for key in gone:
        world.cluster.bucket.vanish(key)
    return [f"{key} is gone" for key in gone], set()


def newest_metadata(world: DamageWorld, before: Before, dice: random.Random) -> tuple[list[str], Lost] | None:
    """The newest slots of the metadata log are gone."""
    keys = world.cluster.bucket.find("/meta/log/")
    gone = keys[-dice.randint(1, min(4, len(keys))) :]
    for key in gone:
        world.cluster.bucket.vanish(key)
    return [f"{key} is gone" for key in gone], set()


def folder(part: str) -> Callable[[DamageWorld, Before, random.Random], tuple[list[str], Lost] | None]:
    """A whole folder is gone."""

    def do(world: DamageWorld, before: Before, dice: random.Random) -> tuple[list[str], Lost] | None:
        gone = world.cluster.bucket.vanish_all(part)
        if not gone:
            return None
        # Of a log without any slot nobody can know what was in it.
        lost = world.lost_with(before, [key for key in gone if "/wal/" in key]) if part == "/wal/" else set()
        return [f"{part} is gone"], lost

    return do


DAMAGES: Sequence[Damage] = (
    Damage("slot of the metadata log", one_of("/meta/log/")),
    Damage("newest slots of the metadata log", newest_metadata),
    Damage("snapshot", one_of("/meta/snapshots/")),
    Damage("claim", one_of("/meta/claims/")),
    Damage("lease", one_of("/meta/lease")),
    Damage("cluster key", one_of("cluster")),
    Damage("object", one_of("/data/")),
    Damage("objects", folder("/data/")),
    Damage("WAL slot in between", a_slot_in_between),
    Damage("newest WAL slots", newest_slots),
    Damage("WAL", folder("/wal/")),
    Damage("metadata", folder("/meta/")),
    Damage("claims", folder("/meta/claims/")),
    Damage("snapshots", folder("/meta/snapshots/")),
)


class DamageSeed(DamageWorld):
    """What chance makes of a cluster, and then of its bucket."""

    def __init__(self, seed: int) -> None:
        name = f"damage {seed}"
        dice = random.Random(name)
        settings = {
            "automq.upload.interval.ms": dice.choice(("1500", "1500", "3600000")),
            "automq.cluster.owner": "us",
        }
        super().__init__(name, settings=settings)
        self.cluster.tuning = {
            "controller": {"snapshot_records": dice.choice((4, 10_000)), "object_grace_ms": 1000},
        }
        self.number = seed
        self.done: list[str] = []

    def _newest_fact(self) -> str:
        return next(key for _, name, key in reversed(self.cluster.writes) if name == "create" and "/meta/log/" in key)

    async def run(self) -> None:
        """Work, die, be damaged, start again."""
        dice = self.dice
        made = await self.broker()
        for _ in range(dice.randint(1, 3)):
            for _ in range(dice.randint(2, 10)):
                await self.produce(1, partition=dice.randrange(2))
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.uniform(0.1, 2))
            made.process.kill()
            await asyncio.sleep(dice.uniform(0.0, 3))
            if dice.random() < 0.5:
                break
            made = await self.broker()
        for made in self.cluster.live:
            made.process.kill()
        # What was on its way lands.
        await asyncio.sleep(5)
        before = self.look()
        damage = DAMAGES[self.number % len(DAMAGES)]
        outcome = damage.do(self, before, dice)
        if outcome is None:
            return
        self.done, lost = outcome
        self.facts_lost = self._newest_fact() not in self.cluster.bucket.find("/meta/log/")
        if self.facts_lost:
            # A commit that is forgotten, with its slots deleted on its strength: only a lease written since shows it.
            lost = lost | (set(before.acknowledged) - self.lost_with(before, before.slots))
        self.cluster.fault(f"{damage.name}: {', '.join(self.done)}")
        await self.judge(before, lost)


def run_damage_seed(seed: int) -> Outcome:
    """Run one to its end. Call it in a process that ends."""
    world = DamageSeed(seed)
    cluster: Cluster = world.cluster
    coverage.watch()
    with logs_to(cluster):
        try:
            run_world(world.loop, world.run())
            cluster.close()
        except (RuntimeError, TimeoutError) as error:
            cluster.violation(f"{type(error).__name__}: {error}")
    made = cluster.incarnations[-1]
    ended = made.reason.value if made.reason is not None else "served" if made.is_serving else "?"
    return Outcome(
        seed=seed,
        violations=list(cluster.violations),
        fingerprint=cluster.fingerprint,
        simulated_s=world.loop.time(),
        acknowledged=world.history.acknowledged_records,
        faults=[*cluster.faults, ended],
        starts=len(cluster.incarnations),
        store_operations=cluster.store.operations,
        trace=list(cluster.trace_tail),
        coverage=coverage.counts(),
    )
