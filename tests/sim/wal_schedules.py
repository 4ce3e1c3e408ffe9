"""Directed schedules about the WAL: holes, fences, trims, and answers that come before what they rest on.

Seeds find most of these by chance; here each is told on purpose, so that it is found whatever else changes.
"""

import asyncio

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import CreatableTopic, CreateTopicsRequest
from tests.sim.accounting import check_accounts
from tests.sim.actors import Reader, Trimmer
from tests.sim.broker_schedules import answer_of, hold, produce
from tests.sim.broker_world import TOPIC, BrokerWorld, of, uploads
from tests.sim.sizes import apply_limits
from tests.support.client import LATEST, ErrorAnswered
from tests.support.cluster import LINK_PORT
from tests.support.faults import Fate, Operation


def lose_first_slot(world: BrokerWorld, made) -> None:
    """The next slot that `made` sends is on its way for ever, whatever comes behind it."""
    lost: list[str] = []
    is_slot = of(made, "create", "/wal/")

    def lose(operation: Operation) -> Fate | None:
        if not is_slot(operation) or (lost and operation.key != lost[0]):
            return None
        lost.append(operation.key)
        return Fate.HELD

    world.direct(lose)


async def acknowledged_behind_a_hole(world: BrokerWorld) -> None:
    """A slot never lands, the one behind it does. The process dies: whoever was answered from the second has lost."""
    first = await world.broker()
    await world.produce(partition=0)
    # Answers on one connection come in order: the other needs one of its own.
    world.add_producer("q")
    await world.producing(partition=1, name="q")
    lose_first_slot(world, first)
    behind = world.when_applied(of(first, "create", "/wal/"))
    sending = [world.producing(partition=0)]
    await asyncio.sleep(0.2)
    sending.append(world.producing(partition=1, name="q"))
    await behind
    await asyncio.sleep(1)
    first.process.kill()
    world.calm()
    await world.broker()
    await asyncio.gather(*sending)


async def recovered_twice(world: BrokerWorld) -> None:
    """A slot never lands, the one behind it does, the process dies. Its recoverer ends the log, and dies as well."""
    first = await world.broker()
    await world.produce()
    lose_first_slot(world, first)
    behind = world.when_applied(of(first, "create", "/wal/"))
    sending = [world.producing(partition=0)]
    await asyncio.sleep(0.2)
    sending.append(world.producing(partition=1))
    await behind
    first.process.kill()
    for process in world.clients:
        process.kill()
    del sending
    world.producers.clear()
    world.history.lanes["p/0"].pop()
    del world.history.lanes["p/1"]
    world.calm()

    second = world.cluster.start()
    await world.when_applied(of(second, "create", "/wal/"))
    await world.when_applied(of(second, "create", "/meta/log/"))
    second.process.kill()
    await world.broker()
    end = await world.again().list_offset(TOPIC, 1, LATEST)
    if end:
        world.cluster.violation(f"the log was ended, and offsets up to {end} that lay beyond its end appeared later")


async def slot_lands_before_the_fence(world: BrokerWorld) -> None:
    """A recoverer has read the log to its end; before its fence arrives, one more slot lands and is acknowledged."""
    first = await world.broker()
    await world.produce()
    # So that it does not learn from the metadata log that it is over.
    world.cluster.store.outage(20, part="/meta/", process=first.process)
    second = world.cluster.start()
    sent = asyncio.get_running_loop().create_future()

    def late(operation: Operation) -> Fate | None:
        if not of(second, "create", "/wal/")(operation) or sent.done():
            return None
        sent.set_result(None)
        return Fate.HELD

    world.direct(late)
    await sent
    await world.produce(2)
    world.cluster.store.release_held()
    await world.serving(second)


async def lost_answer_of_a_slot(world: BrokerWorld) -> None:
    """A slot lands and its answer is lost."""
    first = await world.broker()
    await world.produce()
    seen: list[str] = []

    def lose(operation: Operation) -> Fate | None:
        if not of(first, "create", "/wal/")(operation) or seen:
            return None
        seen.append(operation.key)
        return Fate.LOST

    world.direct(lose)
    await world.produce(2)
    if not first.is_serving:
        world.cluster.violation("a broker took its own slot for a fence")


async def finds_its_slot_taken(world: BrokerWorld) -> None:
    """A broker that cannot read the metadata log hits its recoverer's fence; a reader goes on asking it."""
    first = await world.broker()
    await world.produce()
    process = world.loyal_reader(first)
    producer, epoch = await process.spawn(world.admin.init_producer_id())
    world.cluster.store.outage(60, part="/meta/", process=first.process)
    loyal = world.client("loyal producer")[1]
    sending = process.spawn(answer_of(loyal, produce(producer, epoch, 0), address=world.address_of(first), timeout_s=9))
    await world.broker()
    await sending
    late = process.spawn(answer_of(loyal, produce(producer, epoch, 1), address=world.address_of(first), timeout_s=9))
    await asyncio.sleep(10)
    if first.is_serving:
        world.cluster.violation("a broker has found its slot taken, and goes on")
    process.kill()
    del late


async def restarted(world: BrokerWorld) -> None:
    """Uploads, records that are in the log alone, kill -9, a new process: the everyday story."""
    first = await world.broker()
    await world.produce(3)
    await asyncio.sleep(3)
    await world.produce(2)
    first.process.kill()
    await world.broker()
    await world.produce(1)


async def trimmed_behind_an_upload(world: BrokerWorld) -> None:
    """While an upload is on its way, more records are acknowledged; it is committed, the log trimmed, and kill -9."""
    first = await world.broker()
    keys: list[str] = []

    def slow(operation: Operation) -> Fate | None:
        if not uploads(first)(operation):
            return None
        keys.append(operation.key)
        return Fate.HELD

    world.direct(slow)
    await world.produce()
    await asyncio.sleep(2)
    await world.produce(2)
    trimmed = world.when_applied(of(first, "delete", "/wal/"))
    world.cluster.store.release_held(part=keys[0])
    await trimmed
    await asyncio.sleep(1)
    first.process.kill()
    world.calm()
    await world.broker()
    await world.produce(1)


async def second_upload_overtakes(world: BrokerWorld) -> None:
    """The upload of the first block takes long, that of the second does not."""
    first = await world.broker()
    taken: list[str] = []

    def slow(operation: Operation) -> Fate | None:
        if not uploads(first)(operation) or taken:
            return None
        taken.append(operation.key)
        return Fate.HELD

    world.direct(slow)
    await world.produce()
    await asyncio.sleep(2)
    await world.produce()
    await asyncio.sleep(5)
    world.cluster.store.release_held()
    await world.produce()


async def wakes_up_after_its_recovery(world: BrokerWorld) -> None:
    """A paused broker is recovered; it wakes up with a client's records in its socket, and cannot read the metadata."""
    first = await world.broker()
    await world.produce()
    first.process.pause()
    sending = world.producing()
    await asyncio.sleep(0.5)
    await world.broker()
    await asyncio.sleep(1)
    world.cluster.store.outage(10, part="/meta/", process=first.process)
    first.process.resume()
    await sending
    await world.produce()


async def duplicate_of_what_is_lost(world: BrokerWorld) -> None:
    """A batch is on its way to the log; its producer sends it again. Then the process dies with it."""
    first = await world.broker()
    await world.produce()
    client = world.client("twice")[1]
    process = world.clients[-1]
    producer, epoch = await process.spawn(client.init_producer_id())
    hold(world, first, "/wal/")
    once = process.spawn(answer_of(client, produce(producer, epoch, 0), timeout_s=5))
    await asyncio.sleep(0.3)
    again = await process.spawn(answer_of(world.client("again")[1], produce(producer, epoch, 0), timeout_s=2))
    first.process.kill()
    world.calm()
    await once
    if again is ErrorCode.NONE:
        world.cluster.violation("a duplicate was acknowledged, and what it repeats was never durable")


async def read_before_it_is_durable(world: BrokerWorld) -> None:
    """A batch is on its way to the log; somebody reads. Then the process dies with it."""
    first = await world.broker()
    await world.produce()
    process, client = world.client("reader")
    reader = Reader(client, world.dice, world.history, name="reader", topic=TOPIC)
    hold(world, first, "/wal/")
    sending = world.producing()
    await asyncio.sleep(0.3)
    await process.spawn(reader.step())
    first.process.kill()
    world.calm()
    await world.broker()
    await sending


async def checkpoint_knows_what_is_lost(world: BrokerWorld) -> None:
    """Between the end of a block and its upload, a batch is taken that never becomes durable. Then kill -9."""
    first = await world.broker()
    await world.produce()
    hold(world, first, "/meta/log/")
    preparing = asyncio.get_running_loop().create_future()

    def directed(operation: Operation) -> Fate | None:
        if operation.process is not first.process:
            return None
        if "/meta/log/" in operation.key and operation.name == "create" and not preparing.done():
            preparing.set_result(None)
            return Fate.HELD
        return Fate.HELD if preparing.done() and "/wal/" in operation.key else None

    world.direct(directed)
    await world.produce()
    await preparing
    sending = world.producing()
    await asyncio.sleep(0.3)
    committed = world.when_applied(uploads(first))
    world.cluster.store.release_held(part="/meta/")
    await committed
    await world.when_applied(of(first, "create", "/meta/log/"))
    first.process.kill()
    world.calm()
    await world.broker()
    await sending


async def nobody_writes(world: BrokerWorld) -> None:
    """A second process takes over while the first has nothing to write."""
    await world.broker()
    await world.broker()
    await asyncio.sleep(5)
    if len(world.cluster.serving) != 1:
        world.cluster.violation(f"{len(world.cluster.serving)} processes say that they serve")


async def recovered_in_groups(world: BrokerWorld) -> None:
    """What a dead broker's log holds does not fit into memory at once."""
    world.cluster.tuning = {"storage": {"recovery_bytes": 1}}
    first = await world.broker()
    await world.produce(10)
    await world.produce(10, partition=1)
    first.process.kill()
    await world.broker()
    await world.produce(1)


async def recovered_with_a_late_image(world: BrokerWorld) -> None:
    """As if the controller were elsewhere: what a recoverer commits shows in its image only half a second later."""
    world.cluster.tuning = {"storage": {"recovery_bytes": 1}, "metadata": {"lag_s": 0.5}}
    first = await world.broker()
    await world.produce(10)
    await world.produce(10, partition=1)
    first.process.kill()
    await world.broker()
    await world.produce(1)


async def evicted_with_a_late_image(world: BrokerWorld) -> None:
    """As there; what was uploaded leaves the cache at once, and somebody reads it all the time."""
    world.cluster.tuning = {"metadata": {"lag_s": 0.5}}
    first = await world.broker()
    cache = first.broker._components.storage.append.cache
    committed = cache.committed

    def evict_at_once(*block: object) -> None:
        committed(*block)
        while cache.evict():
            pass

    cache.committed = evict_at_once
    await world.produce(4)
    process, client = world.client("impatient")

    async def read() -> None:
        for _ in range(60):
            try:
                answer = await client.fetch(TOPIC, 0, 0, max_bytes=100_000, max_wait_ms=100)
                if not answer.records:
                    world.cluster.violation("what was acknowledged is not there")
            except ErrorAnswered as error:
                world.cluster.violation(f"what was acknowledged cannot be read: {error}")
            await asyncio.sleep(0.05)

    await process.spawn(read())


async def link_cut_before_the_answer(world: BrokerWorld) -> None:
    """The controller is reached over the network, which is cut when a topic is made and the answer not yet sent."""
    world.cluster.tuning = {"metadata": {"is_remote": True}}
    first = await world.broker()
    process, client = world.client("once")
    topic = CreatableTopic(name="made-once", num_partitions=1, replication_factor=1)
    controller = first.broker._components.controller
    request = CreateTopicsRequest(topics=[topic], timeout=5000)
    creating = process.spawn(client.call(world.address_of(first), ApiKey.CREATE_TOPICS, 7, request))
    while controller._publisher.image.topic("made-once") is None:
        await asyncio.sleep(0.0001)
    # The answer is on its way now.
    for end in list(world.cluster.network._connections):
        if end.is_server and end.get_extra_info("sockname")[1] == LINK_PORT:
            end.break_off()
    (answered,) = (await creating).topics
    if answered.error_code:
        world.cluster.violation(f"a topic that was asked for once: {ErrorCode(answered.error_code).name}")
    await world.produce(1)


async def several_blocks_of_a_stream(world: BrokerWorld) -> None:
    """One upload holds more of a stream than fits one data block."""
    apply_limits({"data block": 1})
    first = await world.broker()
    await world.produce(4)
    await world.produce(3, partition=1)
    await asyncio.sleep(3)
    first.process.kill()
    await world.broker()
    await world.produce(1)


async def trimmed_data_go_away(world: BrokerWorld) -> None:
    """Records are uploaded and then deleted: so are their objects, after the grace period."""
    world.cluster.tuning = {
        "controller": {"object_grace_ms": 1000, "sweep_interval_s": 1.0, "object_expiry_ms": 3_600_000}
    }
    first = await world.broker()
    await world.produce(3)
    await asyncio.sleep(3)
    process, client = world.client("trimmer")
    world.history.trims[0] = 9
    await process.spawn(Trimmer(client, world.dice, world.history, topic=TOPIC, partition=0).delete(9))
    # Two checkpoints are kept: with the third one nothing needs the first object any more.
    await world.produce(2)
    await asyncio.sleep(3)
    await world.produce(2)
    await asyncio.sleep(12)
    check_accounts(world.cluster, first.broker.image)


UPLOADS = {"automq.upload.interval.ms": "1000"}
SCHEDULES = {
    "acknowledged_behind_a_hole": (acknowledged_behind_a_hole, {}),
    "recovered_twice": (recovered_twice, {}),
    "slot_lands_before_the_fence": (slot_lands_before_the_fence, {}),
    "lost_answer_of_a_slot": (lost_answer_of_a_slot, {}),
    "finds_its_slot_taken": (finds_its_slot_taken, {}),
    "restarted": (restarted, UPLOADS),
    "trimmed_behind_an_upload": (trimmed_behind_an_upload, UPLOADS),
    "second_upload_overtakes": (second_upload_overtakes, UPLOADS),
    "wakes_up_after_its_recovery": (wakes_up_after_its_recovery, {}),
    "duplicate_of_what_is_lost": (duplicate_of_what_is_lost, {}),
    "read_before_it_is_durable": (read_before_it_is_durable, {}),
    "checkpoint_knows_what_is_lost": (checkpoint_knows_what_is_lost, UPLOADS),
    "nobody_writes": (nobody_writes, {}),
    "recovered_in_groups": (recovered_in_groups, {}),
    "recovered_with_a_late_image": (recovered_with_a_late_image, {}),
    "evicted_with_a_late_image": (evicted_with_a_late_image, UPLOADS),
    "link_cut_before_the_answer": (link_cut_before_the_answer, {}),
    "several_blocks_of_a_stream": (several_blocks_of_a_stream, UPLOADS),
    "trimmed_data_go_away": (trimmed_data_go_away, UPLOADS),
}
