"""A store that loses what it holds while a broker runs: noticed in seconds on every kind of store, never a fence."""

import asyncio
import pathlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.client import ControllerClient
from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.model import ControllerSettings, TopicSpec
from automq.controller.service import Controller
from automq.controller.serving import LocalLink
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId
from automq.metadata.cluster import CLUSTER_KEY
from automq.metadata.log_format import claim_key
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.ledger import MemoryLedger, split_memory
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.model import BrokerFenced, StoreDamaged, StreamClosed
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import (
    BucketNotFound,
    Buffer,
    NotController,
    ObjectStorage,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from automq.s3stream.settings import StorageSettings
from automq.s3stream.storage import Storage
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.store.uri import open_store, parse_store_uri
from automq.s3stream.stream import Stream
from automq.s3stream.wal.format import SlotId
from automq.server.lifecycle.presence import LOOK_INTERVAL_S, AcknowledgedSlots, Expected, PresenceWatch, expectations
from tests.support.engine import HeldStore, LoopClock
from tests.support.s3_server import S3Server, run_s3_server, write_credentials

CLUSTER = ClusterId("abcdefghijklmnopqrstuv")
NODE = NodeId(1)
# A fifth of the usual: three keys in turn, and slow test machines.
INTERVAL_S = LOOK_INTERVAL_S / 5
BOUND_S = 5.0


@dataclass
class Serving:
    """A controller and a storage engine that take appends, watched."""

    store: ObjectStorage
    controller: Controller
    storage: Storage
    stream: Stream
    confirm: Callable[[], Awaitable[None]]
    acknowledged: int
    damages: list[StoreDamaged]
    fences: list[object]

    async def produce(self) -> None:
        """One record after the other, until one is refused."""
        while True:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            try:
                position = self.stream.append(memoryview(b"x" * 100), count=1, max_timestamp_ms=0)
            except (StoreDamaged, BrokerFenced, StreamClosed):
                return
            self.storage.append.when_durable(position, partial(_settle, done))
            try:
                await done
            except (StoreDamaged, BrokerFenced, StreamClosed):
                return
            self.acknowledged += 1
            await asyncio.sleep(0.005)


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


async def serve(
    store: ObjectStorage,
    tasks: Tasks,
    *,
    upload_interval_ms: int = 100,
    interval_s: float = INTERVAL_S,
    format_prefix: bool = True,
) -> Serving:
    damages: list[StoreDamaged] = []
    fences: list[object] = []
    metadata = MetadataPublisher()
    clock, entropy, metrics = SystemClock(), SystemEntropy(), Metrics()
    if format_prefix:
        await store.create(CLUSTER_KEY, [b"{}"])
    controller = Controller(
        settings=ControllerSettings(),
        cluster_id=CLUSTER,
        node=NODE,
        store=store,
        publisher=metadata,
        key_of=lambda object_id: object_key(CLUSTER, object_id),
        clock=clock,
        entropy=entropy,
        tasks=tasks,
        metrics=ControllerMetrics(metrics, lambda: metadata.image),
        on_fenced=fences.append,
        on_damaged=damages.append,
        on_store=lambda _error: None,
    )
    await controller.start(owner=None)
    registration = await controller.register_broker(NODE, rack=None, endpoints=())
    if format_prefix:
        await controller.create_topics([TopicSpec(name="t", partitions=1)])
    client = ControllerClient(LocalLink(controller), metadata)
    objects = BrokerObjects(controller=client, metadata=metadata, node=NODE, epoch=registration.epoch)
    settings = StorageSettings(wal_interval_ms=2, upload_interval_ms=upload_interval_ms)
    storage = Storage(
        settings=settings,
        ledger=MemoryLedger({**split_memory(1 << 30), **settings.limits()}, metrics),
        cluster_id=CLUSTER,
        node=NODE,
        epoch=registration.epoch,
        store=store,
        objects=objects,
        streams=BrokerStreams(controller=client, metadata=metadata, node=NODE, epoch=registration.epoch),
        clock=clock,
        entropy=entropy,
        tasks=tasks,
        metrics=metrics,
        on_fenced=fences.append,
        on_damaged=damages.append,
    )
    storage.start()
    topic = metadata.image.topic("t")
    assert topic is not None
    stream = storage.open_stream(topic.partitions[0].stream)
    slots = AcknowledgedSlots(storage.append)
    watch = PresenceWatch(
        store=store,
        expectations=expectations(cluster_id=CLUSTER, claimed=lambda: controller.epoch, slots=slots),
        besides=slots.when_quiet,
        confirm=objects.confirm,
        on_lost=storage.damage,
        clock=clock,
        interval_s=interval_s,
    )
    tasks.spawn(watch.run(), name="presence watch")
    return Serving(store, controller, storage, stream, objects.confirm, 0, damages, fences)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


@pytest.fixture(params=["memory", "file", "s3"])
async def serving(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Serving]:
    workers, entropy = ThreadWorkers(), SystemEntropy()
    credentials: str | None = None
    match request.param:
        case "memory":
            uri = parse_store_uri("memory:")
        case "file":
            uri = parse_store_uri(f"file://{tmp_path}/store")
        case _:
            uri = parse_store_uri(request.getfixturevalue("s3_server").make_store_uri())
            credentials = write_credentials(tmp_path / "credentials")
    store = open_store(uri, workers=workers, entropy=entropy, credentials_folder=credentials)
    crashes: list[BaseException] = []
    tasks = Tasks("test", on_crash=lambda _name, error: crashes.append(error))
    try:
        yield await serve(store, tasks)
    finally:
        await tasks.close()
        await store.close()
        workers.close()
    assert crashes == []


async def everything(serving: Serving, tmp_path: pathlib.Path) -> None:
    """The prefix is emptied; a folder is removed whole."""
    folder = tmp_path / "store"
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    await remove(serving.store, "")


async def the_metadata(serving: Serving, tmp_path: pathlib.Path) -> None:
    await remove(serving.store, f"{CLUSTER}/meta/")


async def the_folder_of_the_cluster(serving: Serving, tmp_path: pathlib.Path) -> None:
    await remove(serving.store, f"{CLUSTER}/")


async def the_cluster_key(serving: Serving, tmp_path: pathlib.Path) -> None:
    await serving.store.delete([CLUSTER_KEY])


async def the_claim(serving: Serving, tmp_path: pathlib.Path) -> None:
    await serving.store.delete([claim_key(CLUSTER, serving.controller.epoch)])


async def remove(store: ObjectStorage, prefix: str) -> None:
    await store.delete([info.key for info in await store.list(prefix)])


@pytest.mark.parametrize(
    "lose",
    [everything, the_metadata, the_folder_of_the_cluster, the_cluster_key, the_claim],
    ids=lambda lose: lose.__name__,
)
async def test_f2_acknowledging_ends_soon_after_the_store_has_lost(
    serving: Serving, tmp_path: pathlib.Path, lose: Callable[[Serving, pathlib.Path], Awaitable[None]]
) -> None:
    producing = asyncio.ensure_future(serving.produce())
    while not serving.acknowledged:
        await asyncio.sleep(INTERVAL_S)
    assert serving.storage.halted is None

    await lose(serving, tmp_path)
    loop = asyncio.get_running_loop()
    lost_at = loop.time()
    while serving.storage.halted is None and loop.time() < lost_at + 2 * BOUND_S:
        await asyncio.sleep(0.01)

    assert isinstance(serving.storage.halted, StoreDamaged)
    assert loop.time() - lost_at <= BOUND_S
    await asyncio.wait_for(producing, 5)
    after = serving.acknowledged
    await asyncio.sleep(0.05)
    assert serving.acknowledged == after
    assert (len(serving.damages), serving.fences) == (1, [])


@pytest.mark.parametrize("busy", [False, True])
async def test_f2_slots_that_vanish_are_missed_though_everything_else_is_there(busy: bool) -> None:
    store = HeldStore(MemoryStore())
    crashes: list[BaseException] = []
    tasks = Tasks("test", on_crash=lambda _name, error: crashes.append(error))
    serving = await serve(store, tasks, upload_interval_ms=60_000)
    producing = asyncio.ensure_future(serving.produce())
    await asyncio.sleep(INTERVAL_S)
    if not busy:
        producing.cancel()
        await asyncio.sleep(0.1)
    assert serving.storage.halted is None

    await remove(store.inner, f"{CLUSTER}/wal/")
    # Under load the newest slot is always there: it takes the turn of the oldest.
    for _ in range(int(BOUND_S / INTERVAL_S)):
        if serving.storage.halted is None:
            await asyncio.sleep(INTERVAL_S)

    assert isinstance(serving.storage.halted, StoreDamaged)
    assert "/wal/" in serving.damages[0].key
    await tasks.close()
    assert crashes == []


async def test_somebody_who_took_over_and_deletes_is_a_fence_and_no_damage() -> None:
    store = HeldStore(MemoryStore())
    tasks = Tasks("test", on_crash=lambda _name, error: None)
    serving = await serve(store, tasks, upload_interval_ms=60_000, interval_s=1000)
    producing = asyncio.ensure_future(serving.produce())
    await asyncio.sleep(0.1)
    key = serving.storage.append.wal.slot_id(serving.storage.append.needed_slots[-1]).key
    successor = await serve(store, tasks, upload_interval_ms=60_000, interval_s=1000, format_prefix=False)
    await store.inner.delete([key])
    producing.cancel()

    watch = PresenceWatch(
        store=store,
        expectations=[lambda: Expected(key, "an acknowledged WAL slot")],
        confirm=serving.confirm,
        on_lost=serving.damages.append,
        clock=SystemClock(),
    )
    with pytest.raises(NotController):
        await watch.check()

    assert serving.damages == []
    assert successor.damages == []
    await tasks.close()


class Counting(MemoryStore):
    """Slow, and counts what it is asked for."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.asked: list[tuple[float, str]] = []
        self.error: StoreError | None = None

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        self.asked.append((asyncio.get_running_loop().time(), key))
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return await super().get_range(key, start, end)


def a_watch(store: Counting, lost: list[StoreDamaged], *keys: str) -> PresenceWatch:
    async def confirm() -> None:
        await asyncio.sleep(store.seconds)

    return PresenceWatch(
        store=store,
        expectations=[lambda key=key: Expected(key, "a key") for key in keys],  # type: ignore[misc]
        confirm=confirm,
        on_lost=lost.append,
        clock=LoopClock(),
    )


@pytest.mark.looptime
async def test_one_small_read_an_interval_and_never_a_listing() -> None:
    store = Counting()
    for key in ("a", "b", "c"):
        await store.put(key, [b"x" * 1000])
    lost: list[StoreDamaged] = []
    watching = asyncio.get_running_loop().create_task(a_watch(store, lost, "a", "b", "c").run())
    await asyncio.sleep(60.5 * LOOK_INTERVAL_S)
    watching.cancel()

    assert [key for _, key in store.asked] == ["a", "b", "c"] * 20
    assert lost == []


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("key", ["a", "b", "c"])
@pytest.mark.parametrize("lost_after", [10.0 + moment / 10 for moment in range(0, 42, 3)])
async def test_f2_loss_is_noticed_within_five_seconds_however_slow_an_answer_is(
    seconds: float, key: str, lost_after: float
) -> None:
    store = Counting(seconds=seconds)
    for name in ("a", "b", "c"):
        await store.put(name, [b"x"])
    lost: list[StoreDamaged] = []
    watching = asyncio.get_running_loop().create_task(a_watch(store, lost, "a", "b", "c").run())
    await asyncio.sleep(lost_after)
    await store.delete([key])
    await asyncio.sleep(5.0)

    assert [damage.key for damage in lost] == [key]
    assert watching.done()


@pytest.mark.looptime
@pytest.mark.parametrize("error", [StoreUnavailable("503"), StoreAccessDenied("403"), BucketNotFound("gone")])
async def test_store_that_cannot_be_read_has_lost_nothing(error: StoreError) -> None:
    store = Counting()
    await store.put("a", [b"x"])
    store.error = error
    lost: list[StoreDamaged] = []
    watching = asyncio.get_running_loop().create_task(a_watch(store, lost, "a").run())
    await asyncio.sleep(600)
    assert (lost, watching.done()) == ([], False)

    store.error = None
    await store.delete(["a"])
    await asyncio.sleep(5)
    assert len(lost) == 1


@pytest.mark.looptime
async def test_key_that_became_superfluous_while_it_was_looked_for_is_not_missed() -> None:
    store = Counting()
    lost: list[StoreDamaged] = []
    needed = [False]
    watch = PresenceWatch(
        store=store,
        expectations=[lambda: Expected("gone", "a slot", lambda: needed[0]), lambda: None],
        confirm=_nobody_else,
        on_lost=lost.append,
        clock=LoopClock(),
    )
    await watch.check()
    await watch.check()
    assert lost == []

    needed[0] = True
    with pytest.raises(StoreDamaged):
        await watch.check()
    assert [damage.key for damage in lost] == ["gone"]


@pytest.mark.looptime
async def test_nothing_is_asked_where_nothing_is_expected() -> None:
    store = Counting()
    watch = PresenceWatch(
        store=store, expectations=[lambda: None], confirm=_nobody_else, on_lost=lambda damage: None, clock=LoopClock()
    )
    await watch.check()
    assert store.asked == []


async def _nobody_else() -> None:
    return None


class Slots:
    """What a watch asks of a storage engine, and slots that are written into a store."""

    def __init__(self, store: Counting) -> None:
        self.store = store
        self.needed_slots: list[int] = []
        self.wal = self

    def slot_id(self, sequence: int) -> SlotId:
        return SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(1), sequence=sequence)

    async def write(self, every_s: float, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            sequence = len(self.needed_slots)
            await self.store.put(self.slot_id(sequence).key, [b"x"])
            self.needed_slots.append(sequence)
            await asyncio.sleep(every_s)


async def watched_slots(seconds: float, lost: list[StoreDamaged]) -> tuple[Slots, asyncio.Task[None]]:
    store = Counting(seconds=seconds)
    await store.put(CLUSTER_KEY, [b"x"])
    await store.put(claim_key(CLUSTER, ControllerEpoch(1)), [b"x"])
    written = Slots(store)
    slots = AcknowledgedSlots(written)  # type: ignore[arg-type]
    watch = PresenceWatch(
        store=store,
        expectations=expectations(cluster_id=CLUSTER, claimed=lambda: ControllerEpoch(1), slots=slots),
        besides=slots.when_quiet,
        confirm=_nobody_else,
        on_lost=lost.append,
        clock=LoopClock(),
    )
    return written, asyncio.get_running_loop().create_task(watch.run())


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("quiet_s", [0.0, 0.7, 1.5, 3.1, 20.0])
@pytest.mark.parametrize("ends_after", [10.0 + moment / 10 for moment in range(0, 42, 3)])
async def test_f2_loss_of_the_newest_slot_is_noticed_within_five_seconds_once_nothing_is_written(
    seconds: float, quiet_s: float, ends_after: float
) -> None:
    lost: list[StoreDamaged] = []
    written, watching = await watched_slots(seconds, lost)
    loop = asyncio.get_running_loop()
    await written.write(0.25, loop.time() + ends_after)
    await asyncio.sleep(quiet_s)
    key = written.slot_id(written.needed_slots[-1]).key
    await written.store.delete([key])
    await asyncio.sleep(5.0)

    assert [damage.key for damage in lost] == [key]
    assert watching.done()


@pytest.mark.looptime
async def test_nothing_is_looked_for_besides_under_load_nor_where_nothing_happens() -> None:
    lost: list[StoreDamaged] = []
    written, watching = await watched_slots(0.0, lost)
    loop = asyncio.get_running_loop()
    await written.write(0.25, loop.time() + 59.5 * LOOK_INTERVAL_S)
    assert len(written.store.asked) == 59

    await asyncio.sleep(12 * LOOK_INTERVAL_S)
    before = len(written.store.asked)
    await asyncio.sleep(60 * LOOK_INTERVAL_S)
    assert len(written.store.asked) == before + 60
    watching.cancel()
    assert lost == []
