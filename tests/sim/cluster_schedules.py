"""Directed schedules with several brokers: scenarios that others have met, and rules that chance seldom needs.

`scenario_NN_*` are named after a list of well-known failures of logs on object stores.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from automq.ids import ClusterId
from automq.metadata.log_format import decode_slot, parse_slot_key
from automq.metadata.records import StreamsReleased
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin_cluster import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from automq.protocol.messages.group import FindCoordinatorRequest
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from automq.s3stream.model import BrokerFenced
from tests.sim.broker_schedules import SETTLE_S, leads, three_brokers, until_led_by
from tests.sim.broker_world import TOPIC, BrokerWorld
from tests.support.client import Address, CallFailed, SimClient
from tests.support.cluster import Incarnation
from tests.support.faults import Fate, Operation

WITHIN_S = 60.0
# Silence, the lease's interval, the claim, a session, the recovery of a short log.
CUT_OFF_S = 15.0
# A session, and less than the others take to claim.
UNHEARD_S = 3.6
SLOW_ANSWER_S = 6.0
# Until the first question was asked in vain.
SLOW_S = 8.0


async def until(condition: Callable[[], bool], world: BrokerWorld, what: str) -> None:
    """Wait for it; a violation when it does not come about."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        world.cluster.violation(f"{what}: not within {WITHIN_S} s")


def leader_of(world: BrokerWorld, partition: int = 0) -> int:
    """The node that leads it, as the controller knows; 0 while nobody does."""
    for made in world.cluster.live:
        if leads(made) and made.broker is not None and made.broker.image is not None:
            topic = made.broker.image.topic(TOPIC)
            part = topic.partitions[partition]
            return int(part.leader) if made.broker.image.is_led(part) else 0
    return 0


async def reassign(world: BrokerWorld, partition: int, node: int) -> None:
    """Ask for it, until somebody has taken the request."""
    wanted = ReassignableTopic(
        name=TOPIC, partitions=[ReassignablePartition(partition_index=partition, replicas=[node])]
    )
    while True:
        try:
            answer = await world.admin.call(
                world.admin.any_address(),
                ApiKey.ALTER_PARTITION_REASSIGNMENTS,
                1,
                AlterPartitionReassignmentsRequest(topics=[wanted], timeout=5000),
            )
            if not answer.error_code and not answer.responses[0].partitions[0].error_code:
                return
        except CallFailed:
            pass
        await asyncio.sleep(0.2)


async def moved(world: BrokerWorld, partition: int, node: int) -> None:
    """The partition is led by `node` when this returns."""
    await reassign(world, partition, node)
    await until(lambda: leader_of(world, partition) == node, world, f"partition {partition} moves to {node}")


async def creates_are_answered_409(world: BrokerWorld) -> None:
    """The store answers 409 to half of the creates, of both logs, while partitions move and records come."""
    await three_brokers(world)
    await world.produce()
    world.direct(lambda operation: Fate.CONFLICT if operation.name == "create" and world.dice.random() < 0.5 else None)
    producing = [world.producing(10, partition=index) for index in (0, 1)]
    for node in (2, 3, 1):
        await moved(world, 0, node)
    world.calm()
    await asyncio.gather(*producing)
    if len(world.cluster.serving) != 3:
        world.cluster.violation("a 409 was taken for a fence")


async def zombie_puts_its_keys(world: BrokerWorld) -> None:
    """What a broker sent before it was paused past its session lands when others have what it had."""
    first, second, third = await three_brokers(world)
    await moved(world, 0, 2)
    await world.produce(2)
    held = of_process(second, "create", "create_bulk", "put")
    world.direct(lambda operation: Fate.HELD if held(operation) else None)
    late = world.producing(1)
    await asyncio.sleep(0.5)
    second.process.pause()
    await until(lambda: leader_of(world) not in (0, 2), world, "what a silent broker led is given on")
    world.add_producer("q")
    await world.producing(2, name="q")
    world.calm()
    world.cluster.store.release_held()
    second.process.resume()
    await asyncio.sleep(SETTLE_S / 3)
    await late
    await world.produce(2)


async def release_whose_append_failed(world: BrokerWorld) -> None:
    """A partition is released, and the controller dies with the append: it goes on with the next controller."""
    first, second, third = await three_brokers(world)
    await moved(world, 0, 2)
    await world.produce(2)
    world.direct(lambda operation: Fate.HELD if operation.process is first.process and releases(operation) else None)
    await reassign(world, 0, 3)
    producing = world.producing(4)
    await asyncio.sleep(0.7)
    first.process.kill()
    world.calm()
    await until_led_by(world, (second, third), what="the controller was killed")
    world.cluster.store.release_held()
    await producing
    await until(lambda: leader_of(world) == 3, world, "a move goes on with the next controller")
    await world.produce(2)


async def two_group_coordinators(world: BrokerWorld) -> None:
    """A coordinator loses touch while a commit is on its way to its log; another one answers the group meanwhile."""
    first, second, third = await three_brokers(world)
    process, client = world.client("member")
    await process.spawn(committed(world, client, offset=1))
    found = await process.spawn(coordinator_of(client))
    old = next(made for made in world.cluster.live if made.process.name == found[0])
    writes = of_process(old, "create")
    world.direct(lambda operation: Fate.HELD if writes(operation) and "/wal/" in operation.key else None)
    other, loyal = world.client("loyal")
    loyal.call_timeout_s = 60.0
    sent = other.spawn(commit(loyal, found, offset=2))
    await asyncio.sleep(0.5)
    old.process.pause()
    await until(
        lambda: all(
            made is old or made.broker.image.broker(old.node).fenced for made in world.cluster.live if made.broker
        ),
        world,
        "fenced",
    )
    await process.spawn(committed(world, client, offset=3, besides=found))
    world.calm()
    old.process.resume()
    world.cluster.store.release_held()
    if await sent is ErrorCode.NONE:
        world.cluster.violation("double coordinator: a commit was acknowledged behind that of the next coordinator")


async def sweep_of_a_paused_controller(world: BrokerWorld) -> None:
    """A controller is paused as it is about to delete objects; another one leads, and objects come and go meanwhile."""
    first, second, third = await three_brokers(world)
    await moved(world, 0, 2)
    await world.produce(3)
    first.process.pause()
    await until_led_by(world, (second, third), what="the controller fell silent")
    await world.produce(3)
    await asyncio.sleep(5)
    first.process.resume()
    await asyncio.sleep(SETTLE_S)
    await world.produce(2)
    keys = set(world.cluster.bucket.find("/data/"))
    for made in world.cluster.live:
        if leads(made):
            for object_id in made.broker.image.committed:
                if not any(key.endswith(f"{object_id:016x}"[::-1]) for key in keys):
                    world.cluster.violation(f"dangling reference: object {object_id} is gone")


async def clocks_jump(world: BrokerWorld) -> None:
    """The wall clocks of the controller and of a broker jump, forth and back: nobody is fenced, nobody replaced."""
    first, second, third = await three_brokers(world)
    await world.produce()
    for jump_ms in (100_000, -300_000, 1_000_000, -1_800_000):
        for made in (first, second):
            made.clock.skew_ms += jump_ms
            world.cluster.clock_jumped_at = world.loop.time()
            await world.produce()
            await asyncio.sleep(4)
    if not leads(first) or len(world.cluster.serving) != 3:
        world.cluster.violation("a clock that jumped has cost a broker its place")


async def metadata_away_for_ten_minutes(world: BrokerWorld) -> None:
    """Nobody reaches the metadata log for ten minutes, and producers go on."""
    await three_brokers(world)
    await world.produce()
    world.cluster.store.outage(600, part="/meta/")
    acknowledged = world.history.acknowledged_records
    for _ in range(20):
        producing = world.producing()
        await asyncio.sleep(30)
        await producing
    if world.history.acknowledged_records - acknowledged < 60:
        world.cluster.violation("records were not acknowledged although their log is reached")
    await asyncio.sleep(SETTLE_S)
    await world.produce(2)
    if len(world.cluster.serving) != 3:
        world.cluster.violation(f"{len(world.cluster.serving)} of 3 brokers serve after an outage of the metadata log")


async def one_broker_does_not_hear_the_controller(world: BrokerWorld) -> None:
    """A broker and the controller do not reach each other for a while, shorter than a session; the third hears both."""
    first, second, _third = await three_brokers(world)
    await world.produce()
    network, claims = world.cluster.network, world.cluster.bucket.find("/meta/claims/")
    network.cut(first.process, second.process)
    network.cut(second.process, first.process)
    await asyncio.sleep(8)
    network.heal()
    await asyncio.sleep(SETTLE_S)
    if not leads(first) or world.cluster.bucket.find("/meta/claims/") != claims:
        world.cluster.violation("a controller that was heard was replaced")
    await world.produce(2)


async def controller_is_cut_off(world: BrokerWorld) -> None:
    """The controller's machine is cut off from everything: connections to it neither answer nor end."""
    brokers = await three_brokers(world)
    await cut_off(world, brokers[0], brokers[1:])


async def controller_of_two_is_cut_off(world: BrokerWorld) -> None:
    """The same where one broker is left, which nobody can tell more than the lease does."""
    first, second = await world.broker(), world.cluster.start(2)
    await world.serving(second)
    await cut_off(world, first, [second])


async def controller_is_cut_off_while_others_are_slow(world: BrokerWorld) -> None:
    """The same, and the answer to the first question of those that are left takes too long."""
    first, second, third = await three_brokers(world)

    def slow_down(most_s: float) -> None:
        for one, other in ((second, third), (third, second)):
            world.cluster.network.slow_down(one.process, other.process, most_s)

    slow_down(SLOW_ANSWER_S)
    world.loop.call_later(SLOW_S, slow_down, 0.0)
    await cut_off(world, first, [second, third])


async def cut_off(world: BrokerWorld, lost: Incarnation, left: Sequence[Incarnation]) -> None:
    """`lost` reaches nobody from now on, nor the store; what it led is led again within the time for that."""
    cluster, network = world.cluster, world.cluster.network
    await world.produce()
    await asyncio.sleep(3)
    for other in left:
        network.cut(lost.process, other.process)
        network.cut(other.process, lost.process)
    world.direct(lambda operation: Fate.HELD if operation.process is lost.process else None)
    began = world.loop.time()
    await until(lambda: all(leads_everything(made, lost.node) for made in left), world, "others lead what it led")
    taken_s = world.loop.time() - began
    if taken_s > CUT_OFF_S:
        cluster.violation(f"what a broker led that was cut off is led again after {taken_s:.1f} s")
    cluster.trace("led again after", f"{taken_s:.3f}")
    network.heal()
    world.calm()
    cluster.store.release_held()
    await asyncio.sleep(SETTLE_S)
    await world.produce(2)


def leads_everything(made: Incarnation, lost: int) -> bool:
    """Whether `made` reads that others than `lost` lead all partitions."""
    image = None if made.broker is None else made.broker.image
    topic = None if image is None else image.topic(TOPIC)
    return topic is not None and all(image.is_led(part) and part.leader != lost for part in topic.partitions)


async def controller_hears_nobody_for_a_while(world: BrokerWorld) -> None:
    """The controller is cut off from all brokers, a little longer than a session: likelier it is than all of them."""
    brokers = await three_brokers(world)
    await asyncio.sleep(3)
    network = world.cluster.network
    for other in brokers[1:]:
        network.cut(other.process, brokers[0].process)
    await asyncio.sleep(UNHEARD_S)
    network.heal()
    await asyncio.sleep(SETTLE_S / 3)
    check_nobody_fenced(world, *brokers)


def check_nobody_fenced(world: BrokerWorld, *brokers: Incarnation) -> None:
    """Each serves as the incarnation that it was."""
    for made in brokers:
        if not made.is_serving:
            world.cluster.violation(f"{made.process.name} was fenced, and was well all the time")


async def leader_wants_to_end_its_log(world: BrokerWorld) -> None:
    """A broker asks to be recorded as gone in order while it still leads a partition, and dies: its log is needed."""
    _first, second, _third = await three_brokers(world)
    await moved(world, 0, 2)
    await world.produce(3)
    parts = second.broker._components

    async def end() -> None:
        with contextlib.suppress(ApiError, BrokerFenced):
            await parts.client.end_broker(parts.node, parts.epoch)

    await second.process.spawn(end())
    second.process.kill()
    await until(lambda: leader_of(world) not in (0, 2), world, "what a broker led that is gone is given on")
    await world.produce(2)


async def straggler_begins_anew(world: BrokerWorld) -> None:
    """A process that was paused past its session begins anew, slowly; its node has another process by then."""
    _first, second, _third = await three_brokers(world)
    await world.produce()
    cluster = world.cluster
    straggling: list[Incarnation] = []

    def hold(_ended: Incarnation, following: Incarnation) -> None:
        straggling.append(following)
        following.process.pause()

    cluster.on_rejoined.append(hold)
    second.process.pause()
    await until(lambda: fenced_for_others(world, second), world, "a silent broker is fenced")
    second.process.resume()
    await until(lambda: bool(straggling), world, "a fenced process begins anew")
    newer = cluster.start(second.node)
    await world.serving(newer)
    straggling[0].process.resume()
    await asyncio.sleep(SETTLE_S)
    if not newer.is_serving:
        cluster.violation("a process that began anew superseded the one that was started last")
    if straggling[0].is_serving:
        cluster.violation("two processes of a node serve")
    await world.produce(2)


def fenced_for_others(world: BrokerWorld, made: Incarnation) -> bool:
    """Whether everybody else reads that the newest incarnation of its node is fenced."""
    images = [other.broker.image for other in world.cluster.live if other is not made and other.broker is not None]
    brokers = [None if image is None else image.broker(made.node) for image in images]
    return all(broker is not None and broker.fenced for broker in brokers)


def of_process(made: Incarnation, *names: str) -> Callable[[Operation], bool]:
    """Whether an operation is one of these, and `made`'s."""
    return lambda operation: operation.process is made.process and operation.name in names


def releases(operation: Operation) -> bool:
    """Whether it appends that streams have a new owner."""
    position = parse_slot_key(operation.key)
    if operation.name != "create" or position is None or operation.body is None or operation.body[5] == 2:
        return False
    slot = decode_slot(ClusterId(operation.key.partition("/")[0]), position, operation.body)
    return any(isinstance(record, StreamsReleased) for record in slot.records)


async def coordinator_of(client: SimClient, group: str = "g") -> Address:
    """Who coordinates the group."""
    while True:
        try:
            found = await client.call(
                client.any_address(), ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key=group)
            )
            if not found.error_code:
                return found.host, found.port
        except CallFailed:
            pass
        await asyncio.sleep(0.2)


async def commit(client: SimClient, where: Address, *, offset: int) -> ErrorCode | None:
    """Commit once, as a consumer without a group membership does; None without an answer."""
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
    request = OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=-1,
        member_id="",
        topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=[partition])],
    )
    try:
        answer = await client.call(where, ApiKey.OFFSET_COMMIT, 7, request)
    except CallFailed:
        return None
    return ErrorCode(answer.topics[0].partitions[0].error_code)


async def committed(world: BrokerWorld, client: SimClient, *, offset: int, besides: Address | None = None) -> None:
    """Acknowledged when this returns, by somebody else than `besides`."""
    while True:
        where = await coordinator_of(client)
        if where != besides and await commit(client, where, offset=offset) is ErrorCode.NONE:
            return
        await asyncio.sleep(0.2)


# What is asked for stays so.
UNBALANCED = {"automq.balancer.enable": "false"}
Story = Callable[[BrokerWorld], Awaitable[None]]
SCHEDULES: Mapping[str, tuple[Story, Mapping[str, str]]] = {
    "one_broker_does_not_hear_the_controller": (
        one_broker_does_not_hear_the_controller,
        # Whether it is fenced meanwhile is another matter.
        {**UNBALANCED, "automq.broker.session.timeout.ms": "20000"},
    ),
    "controller_is_cut_off": (controller_is_cut_off, UNBALANCED),
    "controller_of_two_is_cut_off": (controller_of_two_is_cut_off, UNBALANCED),
    "controller_is_cut_off_while_others_are_slow": (controller_is_cut_off_while_others_are_slow, UNBALANCED),
    "controller_hears_nobody_for_a_while": (controller_hears_nobody_for_a_while, UNBALANCED),
    "leader_wants_to_end_its_log": (leader_wants_to_end_its_log, UNBALANCED),
    "straggler_begins_anew": (straggler_begins_anew, UNBALANCED),
    "scenario_02_creates_are_answered_409": (creates_are_answered_409, UNBALANCED),
    "scenario_04_zombie_puts_its_keys": (zombie_puts_its_keys, UNBALANCED),
    "scenario_05_release_whose_append_failed": (release_whose_append_failed, UNBALANCED),
    "scenario_08_two_group_coordinators": (two_group_coordinators, UNBALANCED),
    "scenario_14_sweep_of_a_paused_controller": (sweep_of_a_paused_controller, UNBALANCED),
    "scenario_18_clocks_jump": (clocks_jump, UNBALANCED),
    "scenario_20_metadata_away_for_ten_minutes": (metadata_away_for_ten_minutes, UNBALANCED),
}
