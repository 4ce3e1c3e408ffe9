"""One seed of a cluster: two to five brokers on one bucket, their clients and operator, what goes wrong, the verdict.

As `world`, but that brokers fail, leave, join and are cut off one by one, partitions move all the time, and in the end
everything must be served by whoever is left.
"""

import asyncio
import random

from automq.s3stream.objects.format import object_key
from tests.sim import memory
from tests.sim.accounting import check_accounts
from tests.sim.actors import until_done
from tests.sim.cluster_coverage import CLUSTER_PROBES
from tests.sim.cluster_history import ClusterHistory, judge_epochs
from tests.sim.cluster_nemesis import ClusterNemesis, Supervisors, is_fenced, leads
from tests.sim.operator import Operator
from tests.sim.sizes import draw_sizes
from tests.sim.world import TOPIC, Outcome, World, draw_controller, draw_settings, run_to_end
from tests.support.cluster import PORT, Cluster
from tests.support.sim_loop import SimLoop

FAULT_SECONDS = 40.0
START_S = 60.0
# Who was paused or cut off learns of its fence, is started again, and registers.
SETTLE_S = 25.0
# With so few slots of the metadata log in a listing, a start costs a request for every few of them, and more come.
FEW_LISTED_SLOTS = 8
SETTLE_SLOT_S = 0.2
CALM_S = 4.0
LOADS_S = 6.0
ACKNOWLEDGED_MIN = 1000


class ClusterWorld(World):
    """See the module."""

    acknowledged_min = ACKNOWLEDGED_MIN
    probes = CLUSTER_PROBES

    def __init__(self, seed: int | str) -> None:
        self.seed = f"cluster {seed}"
        self.loop = SimLoop(self.seed)
        self.dice = random.Random(f"world {self.seed}")
        dice = self.dice
        self.sizes = draw_sizes(dice)
        tuning = {
            "controller": draw_controller(dice),
            "storage": self.sizes.storage,
            "metadata": {"is_remote": dice.random() < 0.25},
        }
        settings = {**draw_settings(dice), **draw_cluster_settings(dice)}
        self.cluster = Cluster(self.seed, self.loop, settings=settings, tuning=tuning)
        self.cluster.store.page_keys = dice.choice((None, None, 3, 20))
        if self.cluster.store.page_keys is not None:
            self.cluster.store.latency.list_most /= 5
        self.topic_configs: dict[str, str] = {}
        self.history: ClusterHistory = ClusterHistory(
            dice.randint(2, 6), violations=self.cluster.violations, is_stale=self.cluster.is_stale, now=self.loop.time
        )
        self.producers = []
        self.clients = []
        self.administrator = None
        self.changing = []
        self.supervisors = Supervisors(self.cluster, dice)

    async def run(self) -> None:
        """The whole story."""
        cluster, history, dice = self.cluster, self.history, self.dice
        watching = [
            asyncio.ensure_future(memory.look_on(cluster)),
            asyncio.ensure_future(self.supervisors.run()),
        ]
        for node in range(1, dice.randint(2, 4) + 1):
            self.supervisors.start(node)
            if dice.random() < 0.5:
                await asyncio.sleep(dice.uniform(0, 2))
        if not await cluster.wait_serving(START_S):
            cluster.violation(f"no broker serves {START_S} s after the start")
            return
        _, admin = self.client("admin")
        await until_done(
            lambda: admin.create_topic(TOPIC, history.partitions, self.topic_configs),
            dice=dice,
            history=history,
            what="CreateTopics",
        )
        self.spawn_clients()
        self._spawn_operator()
        nemesis = ClusterNemesis(cluster, self.supervisors, dice, clients=self.clients, seconds=FAULT_SECONDS)
        await nemesis.run()
        await self.settle()
        await self.check_liveness(admin)
        await self.check_quiet()
        for task in watching:
            task.cancel()

    def _spawn_operator(self) -> None:
        process, client = self.client("operator")
        operator = Operator(
            client,
            random.Random(f"o! {self.seed}"),
            self.history,
            topics=(TOPIC, "__consumer_offsets"),
            brokers=lambda: {node: (made.process.name, PORT) for node, made in self.supervisors.current.items()},
        )
        self.changing.append((operator, process.spawn(operator.run())))

    async def settle(self) -> None:
        """Every node that is not lost has a process that serves, and it stays so for a while."""
        cluster, supervisors = self.cluster, self.supervisors
        began = since = cluster.loop.time()
        deadline = began + SETTLE_S
        if self.sizes.limits.get("listed slots") == FEW_LISTED_SLOTS:
            deadline += SETTLE_SLOT_S * sum("/meta/log/" in key for key in cluster.bucket.find())
        while cluster.loop.time() - since < CALM_S:
            await asyncio.sleep(0.1)
            now = cluster.loop.time()
            if not all(made.is_serving for made in supervisors.current.values()):
                since = now
            if now > deadline:
                states = [
                    f"{made.process.name} {'ended' if made.ended else made.broker and made.broker.lifecycle.message}"
                    for made in supervisors.current.values()
                    if not made.is_serving
                ]
                cluster.violation(f"{now - began:.1f} s after the last fault brokers do not serve: {states}")
                return

    @property
    def is_busy(self) -> bool:
        """Whether there is still something to do without clients: what brokers carried counts for a while."""
        settings = self.cluster.settings
        calm_s = LOADS_S + 2 * int(settings["automq.balancer.interval.ms"]) / 1000
        return self.cluster.is_compacting or self.loop.time() - self.cluster.moved_at < calm_s

    def judge(self, starts: list[int], ends: list[int], logs: list[list[bytes]]) -> None:
        World.judge(self, starts, ends, logs)
        judge_epochs(self.history)

    def check_end(self) -> None:
        """Who serves and leads in the end, what everybody knows, and what lies in the bucket."""
        cluster = self.cluster
        expected = list(self.supervisors.current.values())
        strangers = [made for made in cluster.serving if made not in expected and not is_fenced(made)]
        for made in strangers:
            cluster.violation(f"{made.process.name} says that it serves, and another process of its node does")
        leading = [made for made in cluster.live if leads(made)]
        if len(leading) != 1:
            cluster.violation(f"{[made.process.name for made in leading]} take themselves for the controller")
            return
        controller = leading[0].broker._components.roles.controller
        image = controller._publisher.image
        for made in expected:
            if made.broker is not None and made.broker.image is not None:
                known = made.broker.image.record_number
                if known != image.record_number:
                    cluster.violation(f"{made.process.name} knows {known} of {image.record_number} records")
        if image.moves:
            cluster.violation(f"{len(image.moves)} moves never end")
        keys = set(cluster.bucket.find())
        for key in (object_key(leading[0].broker.cluster_id, object_id) for object_id in image.committed):
            if key not in keys:
                cluster.violation(f"dangling reference: {key} is committed and not in the bucket")
        for topic in image.topics():
            for part in topic.partitions:
                if not image.is_led(part):
                    cluster.violation(f"{topic.name}-{part.index} has no leader in the end")
        check_accounts(cluster, image)


def draw_cluster_settings(dice: random.Random) -> dict[str, str]:
    """What only several brokers have."""
    return {
        "automq.broker.session.timeout.ms": str(dice.choice((2000, 3000, 3000, 6000))),
        "automq.balancer.enable": dice.choice(("true", "true", "false")),
        "automq.balancer.interval.ms": str(dice.choice((300, 2000, 10_000))),
        "offsets.topic.num.partitions": str(dice.choice((1, 3))),
    }


def run_cluster_seed(seed: int | str) -> Outcome:
    """Run one seed to its end. Leaves the loop as it is: call it in a process that ends (`tests.sim.isolation`)."""
    return run_to_end(ClusterWorld(seed))
