"""Directed schedules with whole brokers: answers that must wait, second starts that must not hurt, fenced processes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import CreatableTopic, CreateTopicsRequest
from automq.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from automq.server.lifecycle.states import Reason
from tests.sim.actors import Trimmer
from tests.sim.broker_world import ASIDE, TOPIC, BrokerWorld, of
from tests.support.batches import build_batch
from tests.support.client import Address, CallFailed, SimClient
from tests.support.cluster import Incarnation
from tests.support.faults import Fate

OWNER = {"automq.cluster.owner": "ours"}
STRANGER = {"automq.cluster.owner": "theirs"}
OTHER_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"
SETTLE_S = 30.0
# From the last word of a controller to the next one that leads.
ELECTED_S = 10.0


async def told_of_what_is_lost(world: BrokerWorld) -> None:
    """A topic's creation is on its way; somebody else asks for the same name. Then the process dies with it."""
    first = await world.broker()
    client = world.client("other")[1]
    hold(world, first, "/meta/log")
    creating = world.clients[-1].spawn(answer_of(client, create("side")))
    await asyncio.sleep(0.5)
    told = await world.clients[-1].spawn(answer_of(world.client("third")[1], create("side"), timeout_s=3))
    first.process.kill()
    world.calm()
    await creating
    await world.broker()
    response = await world.admin.refresh(["side"])
    if told == ErrorCode.TOPIC_ALREADY_EXISTS and response.topics[0].error_code:
        world.cluster.violation("somebody was told that a topic exists, which never did")


async def refused_because_of_what_is_lost(world: BrokerWorld) -> None:
    """A producer's newer epoch is on its way to the log; its older one is refused. Then the process dies with it."""
    first = await world.broker()
    await world.produce()
    client = world.client("twice")[1]
    producer, epoch = await world.clients[-1].spawn(client.init_producer_id())
    hold(world, first, "/wal/")
    newer = world.clients[-1].spawn(answer_of(client, produce(producer, epoch + 1, 0), timeout_s=4))
    await asyncio.sleep(0.3)
    refused = await world.clients[-1].spawn(answer_of(world.client("old")[1], produce(producer, epoch, 0), timeout_s=2))
    first.process.kill()
    world.calm()
    if refused == ErrorCode.INVALID_PRODUCER_EPOCH and await newer is None:
        world.cluster.violation("a producer was fenced by an epoch that was never durable")


async def seen_and_lost(world: BrokerWorld) -> None:
    """A topic's creation is on its way; somebody looks at the metadata. Then the process dies with it."""
    first = await world.broker()
    client = world.client("other")[1]
    hold(world, first, "/meta/log")
    creating = world.clients[-1].spawn(answer_of(client, create("side"), timeout_s=3))
    await asyncio.sleep(0.5)
    seen = await world.admin.refresh(["side"])
    first.process.kill()
    world.calm()
    await creating
    await world.broker()
    found = await world.admin.refresh(["side"])
    if found.topics[0].error_code and not seen.topics[0].error_code:
        world.cluster.violation("a topic was shown, which never existed")


async def asked_after_its_fence(world: BrokerWorld) -> None:
    """A second process of the node takes over from a healthy first; a reader goes on asking the first."""
    first = await world.broker()
    await world.produce()
    process = world.loyal_reader(first)
    await world.broker()
    await asyncio.sleep(10)
    process.kill()


async def asked_while_it_was_paused(world: BrokerWorld) -> None:
    """A process is paused for longer than a session, and replaced; what it was asked meanwhile it finds at the end."""
    first = await world.broker()
    await world.produce()
    process, client = world.client("loyal")
    where = world.address_of(first)
    client.call_timeout_s = 60.0
    await process.spawn(client.fetch_many(where, TOPIC, {0: 0}, 4096))
    first.process.pause()
    asking = process.spawn(client.fetch_many(where, TOPIC, {0: 0}, 4096, max_wait_ms=0))
    await world.broker()
    await world.produce()
    await asyncio.sleep(SETTLE_S / 2)
    first.process.resume()
    try:
        (answered,) = await asking
    except CallFailed:
        return
    world.cluster.violation(f"a process woke up after its session and answered: {answered.high_watermark}")


async def two_supervisors(world: BrokerWorld) -> None:
    """A second process of the node fences the first; each has a supervisor that starts it again when it ends."""

    async def supervise(made: Incarnation) -> None:
        while True:
            while not made.ended:
                await asyncio.sleep(0.5)
            made = world.cluster.start()

    first = await world.broker()
    supervisors = [asyncio.ensure_future(supervise(first))]
    supervisors.append(asyncio.ensure_future(supervise(await world.broker())))
    await asyncio.sleep(90)
    for supervisor in supervisors:
        supervisor.cancel()
    if len(world.cluster.incarnations) > 2:
        world.cluster.violation(f"{len(world.cluster.incarnations)} processes were started, two of them for a reason")


async def fenced_without_a_store(world: BrokerWorld) -> None:
    """A fenced process cannot read the store for a minute: that says nothing about the newer one's lease."""
    first = await world.broker()
    await world.broker()
    await asyncio.sleep(3)
    world.cluster.store.outage(60, process=first.process)
    await asyncio.sleep(45)
    if first.ended:
        world.cluster.violation("a fenced process ended, although its successor is alive")


async def trimmed_to_the_end(world: BrokerWorld) -> None:
    """All records are deleted before they were uploaded; the process dies. Their offsets must not be given again."""
    first = await world.broker()
    await world.produce(3)
    process, client = world.client("trimmer")
    trimmer = Trimmer(client, world.dice, world.history, topic=TOPIC, partition=0)
    world.history.trims[0] = 9
    await process.spawn(trimmer.delete(9))
    first.process.kill()
    await world.broker()
    await world.produce(2)


async def stranger_starts(world: BrokerWorld) -> None:
    """A process of another owner is pointed at the prefix by mistake, while the owner's broker runs."""
    await unharmed(world, settings=STRANGER, expected=Reason.STORE_OWNED_BY_ANOTHER)


async def adopted_while_it_runs(world: BrokerWorld) -> None:
    """Somebody adopts a cluster whose owner is alive."""
    first = await world.broker()
    cluster_id = first.broker.cluster_id
    settings = {**STRANGER, "automq.storage.adopt": cluster_id}
    await unharmed(world, settings=settings, expected=Reason.STORE_OWNED_BY_ANOTHER, first=first)


async def taken_over_without_a_word(world: BrokerWorld) -> None:
    """The owner's broker is dead; a stranger starts that does not name the cluster."""
    first = await world.broker()
    await world.produce()
    first.process.kill()
    second = world.cluster.start(settings=STRANGER, expected=Reason.STORE_OWNED_BY_ANOTHER)
    await asyncio.sleep(SETTLE_S)
    if not second.ended:
        world.cluster.violation("a stranger runs the cluster")
        second.process.kill()


async def another_clusters_prefix(world: BrokerWorld) -> None:
    """A process that knows its cluster is pointed at another's prefix."""
    await unharmed(world, settings={"automq.cluster.id": OTHER_CLUSTER}, expected=Reason.STORE_CLUSTER_MISSING)


async def bucket_made_anew(world: BrokerWorld) -> None:
    """A process that knows its cluster finds an empty prefix: it must not become an empty cluster in silence."""
    await stays_empty(world, {"automq.cluster.id": OTHER_CLUSTER})


async def adopts_an_empty_prefix(world: BrokerWorld) -> None:
    """Adopting what is not there."""
    await stays_empty(world, {**STRANGER, "automq.storage.adopt": OTHER_CLUSTER})


async def second_node_id(world: BrokerWorld) -> None:
    """A broker of another node id joins a healthy first, which stays the controller and goes on serving."""
    first = await world.broker()
    await world.produce()
    second = world.cluster.start(2)
    await asyncio.sleep(SETTLE_S)
    if not first.is_serving or not second.is_serving:
        world.cluster.violation("a second broker has not joined the first, but hurt it")
        second.process.kill()
        first.process.kill()
    elif first.broker._components.roles.controller is None:
        world.cluster.violation("a second broker took the claim from the healthy first")
    second.process.kill()


async def second_node_id_after_the_first(world: BrokerWorld) -> None:
    """The same when the first is dead: it becomes the controller, and the first joins it when it is back."""
    first = await world.broker()
    await world.produce()
    first.process.kill()
    second = world.cluster.start(2)
    await asyncio.sleep(SETTLE_S)
    if not second.is_serving:
        world.cluster.violation("a second broker does not serve in place of the first")
    again = world.cluster.start(1)
    await asyncio.sleep(SETTLE_S)
    if not second.is_serving or not again.is_serving:
        world.cluster.violation("the first has not joined the second")
    second.process.kill()


async def three_brokers(world: BrokerWorld) -> tuple[Incarnation, Incarnation, Incarnation]:
    """Of one cluster; the first is its controller, and leads what there is."""
    first = await world.broker()
    second, third = world.cluster.start(2), world.cluster.start(3)
    await world.serving(second)
    await world.serving(third)
    return first, second, third


def leads(made: Incarnation) -> bool:
    """Whether it is the controller, as far as it knows."""
    return made.broker._components.roles.controller is not None


async def until_led_by(world: BrokerWorld, made: Iterable[Incarnation], *, what: str) -> None:
    """One of these becomes the controller within the time that the design gives it."""
    try:
        async with asyncio.timeout(ELECTED_S):
            while not any(leads(each) for each in made):
                await asyncio.sleep(0.05)
    except TimeoutError:
        world.cluster.violation(f"no other broker leads {ELECTED_S} s after {what}")


async def controller_killed_in_a_cluster(world: BrokerWorld) -> None:
    """Another broker becomes the controller; the first comes back as a follower, with what it had acknowledged."""
    first, second, third = await three_brokers(world)
    await world.produce(2)
    first.process.kill()
    await until_led_by(world, (second, third), what="the controller was killed")
    again = world.cluster.start(1)
    await world.serving(again)
    if leads(again) or leads(second) == leads(third):
        world.cluster.violation("after a restart there is not one controller among those that stayed")
    await world.produce(2)


async def controller_paused_in_a_cluster(world: BrokerWorld) -> None:
    """Another broker becomes the controller; the first wakes up, learns of it, and goes on as a broker."""
    first, second, third = await three_brokers(world)
    await world.produce(2)
    first.process.pause()
    await until_led_by(world, (second, third), what="the controller fell silent")
    first.process.resume()
    await asyncio.sleep(SETTLE_S)
    if leads(first) or leads(second) == leads(third):
        world.cluster.violation("two brokers take themselves for the controller, or none does")
    if not first.is_serving:
        world.cluster.violation("a broker has ended with its claim")
    await world.produce(2)


async def links_cut_in_a_cluster(world: BrokerWorld) -> None:
    """Every connection breaks, again and again: nobody is replaced who listens, and nothing is lost."""
    first, second, third = await three_brokers(world)
    for _ in range(5):
        world.cluster.network.reset()
        await world.produce()
        await asyncio.sleep(world.dice.uniform(0.0, 1.0))
    await asyncio.sleep(SETTLE_S)
    if not leads(first) or leads(second) or leads(third):
        world.cluster.violation("a controller that listens was replaced because connections broke")


async def two_make_the_cluster(world: BrokerWorld) -> None:
    """A process has seen that there is no cluster; before it has looked at the rest, another makes one. Seed 224."""
    first = world.cluster.start()
    looks = of(first, "list", "")
    world.direct(lambda operation: Fate.HELD if looks(operation) and not operation.key else None)
    await asyncio.sleep(1)
    await world.broker()
    world.calm()
    world.cluster.store.release_held()
    await asyncio.sleep(SETTLE_S)
    if first.ended:
        world.cluster.violation("a process that came second to an empty prefix took the new cluster for foreign data")


async def address_taken(world: BrokerWorld) -> None:
    """The same configuration is started twice on one machine."""
    first = await world.broker()
    await unharmed(world, host=first.process.name, expected=Reason.ADDRESS_IN_USE, first=first)


async def written_by_a_newer_program(world: BrokerWorld) -> None:
    """The prefix holds a cluster of a format that this program does not know."""
    key = json.dumps({"clusterId": OTHER_CLUSTER, "formatVersion": 2, "doctor": {}}).encode()
    await world.cluster.bucket.create("cluster", [key])
    made = world.cluster.start(expected=Reason.STORE_FORMAT_TOO_NEW)
    await asyncio.sleep(SETTLE_S)
    if not made.ended or len(await world.cluster.bucket.list("")) > 1:
        world.cluster.violation("a cluster of a newer program was touched")


def hold(world: BrokerWorld, made: Incarnation, part: str) -> None:
    """From now on what `made` sends to keys with `part` is on its way, and never arrives."""
    world.direct(lambda operation: Fate.HELD if operation.process is made.process and part in operation.key else None)


async def unharmed(
    world: BrokerWorld,
    *,
    expected: Reason,
    settings: Mapping[str, str] | None = None,
    host: str | None = None,
    first: Incarnation | None = None,
    node: int = 1,
) -> None:
    """A mistaken second start ends, and the first never notices."""
    first = first or await world.broker()
    await world.produce()
    second = world.cluster.start(node, settings=settings, host=host, expected=expected)
    await asyncio.sleep(SETTLE_S)
    if not second.ended:
        world.cluster.violation(f"a second start goes on, which should have ended with {expected.value}")
        second.process.kill()
    if not first.is_serving:
        world.cluster.violation("a mistaken second start has hurt the healthy first")
        first.process.kill()


async def stays_empty(world: BrokerWorld, settings: Mapping[str, str]) -> None:
    """The process ends and has written nothing."""
    made = world.cluster.start(settings=settings, expected=Reason.STORE_CLUSTER_MISSING)
    await asyncio.sleep(SETTLE_S)
    if not made.ended or await world.cluster.bucket.list(""):
        world.cluster.violation("an empty prefix was formatted by a process that knows its cluster")


def create(name: str) -> tuple[ApiKey, int, CreateTopicsRequest]:
    """A request for a topic."""
    return (
        ApiKey.CREATE_TOPICS,
        7,
        CreateTopicsRequest(topics=[CreatableTopic(name=name, num_partitions=1, replication_factor=1)], timeout=5000),
    )


def produce(producer: int, epoch: int, sequence: int, topic: str = ASIDE) -> tuple[ApiKey, int, ProduceRequest]:
    """One batch, to a topic whose records nobody counts."""
    batch = build_batch([b"x"], timestamp_ms=0, producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
    data = PartitionProduceData(index=0, records=memoryview(batch))
    return (
        ApiKey.PRODUCE,
        9,
        ProduceRequest(acks=-1, timeout=9000, topic_data=[TopicProduceData(name=topic, partition_data=[data])]),
    )


async def answer_of(
    client: SimClient, request: tuple, *, timeout_s: float = 20.0, address: Address | None = None
) -> ErrorCode | None:
    """The first error code of the answer; None without an answer."""
    client.call_timeout_s = timeout_s
    key, version, message = request
    try:
        response = await client.call(address or client.any_address(), key, version, message)
    except CallFailed:
        return None
    if key is ApiKey.PRODUCE:
        return ErrorCode(response.responses[0].partition_responses[0].error_code)
    return ErrorCode(response.topics[0].error_code)


Story = Callable[[BrokerWorld], Awaitable[None]]
SCHEDULES: Mapping[str, tuple[Story, Mapping[str, str]]] = {
    "told_of_what_is_lost": (told_of_what_is_lost, {}),
    "refused_because_of_what_is_lost": (refused_because_of_what_is_lost, {}),
    "seen_and_lost": (seen_and_lost, {}),
    "asked_after_its_fence": (asked_after_its_fence, {}),
    "asked_while_it_was_paused": (asked_while_it_was_paused, {}),
    "two_supervisors": (two_supervisors, {}),
    "fenced_without_a_store": (fenced_without_a_store, {}),
    "trimmed_to_the_end": (trimmed_to_the_end, {}),
    "stranger_starts": (stranger_starts, OWNER),
    "adopted_while_it_runs": (adopted_while_it_runs, OWNER),
    "taken_over_without_a_word": (taken_over_without_a_word, OWNER),
    "another_clusters_prefix": (another_clusters_prefix, {}),
    "bucket_made_anew": (bucket_made_anew, {}),
    "adopts_an_empty_prefix": (adopts_an_empty_prefix, {}),
    "written_by_a_newer_program": (written_by_a_newer_program, {}),
    "address_taken": (address_taken, {}),
    "second_node_id": (second_node_id, {}),
    "second_node_id_after_the_first": (second_node_id_after_the_first, {}),
    "controller_killed_in_a_cluster": (controller_killed_in_a_cluster, {}),
    "controller_paused_in_a_cluster": (controller_paused_in_a_cluster, {}),
    "links_cut_in_a_cluster": (links_cut_in_a_cluster, {}),
    "two_make_the_cluster": (two_make_the_cluster, {}),
}
