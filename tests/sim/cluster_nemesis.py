"""What goes wrong among several brokers, and when: drawn from the seed, acted out against the cluster.

Every node has a supervisor, which starts a process again that has ended, or was fenced and does nothing any more.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from automq.server.lifecycle.states import State
from tests.sim.store_faults import PARTS, StoreFaults
from tests.support.cluster import Cluster, Incarnation
from tests.support.faults import WRITES, Operation
from tests.support.sim_loop import Process

BROKERS_MAX = 5
SUPERVISE_S = 0.5
STOP_S_MAX = 30.0
# A process that another one of its node has superseded stays fenced for as long as that one is there.
LEFT_FENCED_S = 5.0


def leads(made: Incarnation) -> bool:
    """Whether it is the controller, as far as it knows."""
    parts = None if made.broker is None else made.broker._components
    controller = None if parts is None else parts.roles.controller
    return made.process.alive and not made.ended and controller is not None and controller.is_active


def is_fenced(made: Incarnation) -> bool:
    """Whether it was fenced and does nothing any more."""
    return made.broker is not None and made.broker.lifecycle.state is State.FENCED


class Supervisors:
    """One of each node that is to be there: at most one process of it, which is started again when it is over."""

    def __init__(self, cluster: Cluster, dice: random.Random) -> None:
        self._cluster, self._dice = cluster, dice
        self.current: dict[int, Incarnation] = {}
        """By node: its newest process."""
        self.absent: set[int] = set()
        """Nodes whose supervisor is away: nothing is started for them."""
        self.restarts = 0
        self._fenced_at: dict[str, float] = {}
        cluster.on_rejoined.append(self._on_rejoined)

    def start(self, node: int) -> Incarnation:
        """A new process of `node`, whatever there is."""
        self.current[node] = made = self._cluster.start(node)
        return made

    def _on_rejoined(self, ended: Incarnation, following: Incarnation) -> None:
        """It is the same process: whoever supervised it goes on doing so, and nobody else begins to."""
        if self.current.get(ended.node) is ended:
            self.current[ended.node] = following

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(SUPERVISE_S)
            for node, made in sorted(self.current.items()):
                if node not in self.absent and self._is_over(made):
                    if made.process.alive:
                        self._cluster.kill(made)
                    self.restarts += 1
                    self.start(node)

    def _is_over(self, made: Incarnation) -> bool:
        if not made.process.alive or made.ended:
            return True
        if not is_fenced(made) or made.process.paused:
            self._fenced_at.pop(made.process.name, None)
            return False
        # As the operator restarts the pod that it knows: a process that was slow to start may have come after it.
        now = self._cluster.loop.time()
        return now - self._fenced_at.setdefault(made.process.name, now) > LEFT_FENCED_S

    @property
    def running(self) -> list[Incarnation]:
        """Processes that are neither dead nor over; paused ones too."""
        return [made for _, made in sorted(self.current.items()) if made.process.alive and not made.ended]


class ClusterNemesis:
    """Acts until its time is over, then heals everything: each node that was not lost for good has a process then."""

    def __init__(
        self,
        cluster: Cluster,
        supervisors: Supervisors,
        dice: random.Random,
        *,
        clients: Sequence[Process],
        seconds: float,
        least_faults: int = 6,
    ) -> None:
        self._cluster, self._supervisors, self._dice, self._clients = cluster, supervisors, dice, clients
        self._seconds, self._least_faults = seconds, least_faults
        store = StoreFaults(cluster, dice)
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._kill,
            self._kill,
            self._kill_controller,
            self._kill_controller,
            self._kill_two,
            self._kill_recoverer,
            self._kill_in_the_middle,
            self._stop,
            self._stop,
            self._pause,
            self._pause_controller,
            self._take_over,
            self._cut_two,
            self._cut_two,
            self._cut_one_off,
            self._cut_one_off,
            self._cut_from_store,
            self._cut_from_clients,
            self._slow_links,
            self._slow_network,
            self._reset_connections,
            store.outage,
            store.outage_of_some_operations,
            store.flaky_store,
            self._clock_jump,
            self._join,
            self._lose,
        ]
        self._kinds = dice.sample(kinds, dice.randint(5, len(kinds)))

    async def run(self) -> None:
        """Act out the schedule."""
        cluster, dice = self._cluster, self._dice
        began = cluster.loop.time()
        mean_s = self._seconds / (self._least_faults + dice.uniform(1, 10))
        while cluster.loop.time() - began < self._seconds or len(cluster.faults) < self._least_faults:
            await asyncio.sleep(dice.uniform(0.1, 2 * mean_s) * dice.choice((0.3, 1, 1)))
            await dice.choice(self._kinds)()
        self.heal()

    def heal(self) -> None:
        """Nothing goes wrong any more; what is on its way late still lands."""
        cluster = self._cluster
        cluster.store.heal()
        cluster.network.rates.reset = cluster.network.rates.slow = 0.0
        cluster.network.heal()
        for made in cluster.incarnations:
            made.process.resume()
        for node in sorted(self._supervisors.absent):
            if node in self._supervisors.current:
                self._supervisors.absent.discard(node)
        cluster.trace("healed")

    # Who is hit.

    def _any(self) -> Incarnation | None:
        running = self._supervisors.running
        return self._dice.choice(running) if running else None

    def _controller(self) -> Incarnation | None:
        found = [made for made in self._supervisors.running if leads(made)]
        return self._dice.choice(found) if found else self._any()

    def _others(self, made: Incarnation) -> list[Incarnation]:
        return [other for other in self._supervisors.running if other is not made]

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cluster.loop.call_later(seconds, callback)

    # Processes.

    def _kill_one(self, made: Incarnation, *, with_machine: bool) -> None:
        """Its supervisor starts it again at once, or after a while."""
        supervisors = self._supervisors
        self._cluster.fault(f"kill {made.process.name}{' and its machine' if with_machine else ''}")
        if with_machine:
            self._cluster.network.lose_machine(made.process)
        self._cluster.kill(made)
        away_s = self._dice.choice((0.0, self._dice.uniform(0, 2), self._dice.uniform(3, 15)))
        if away_s:
            supervisors.absent.add(made.node)
            self._later(away_s, lambda: supervisors.absent.discard(made.node))

    async def _kill(self) -> None:
        made = self._any()
        if made is not None:
            self._kill_one(made, with_machine=self._dice.random() < 0.3)

    async def _kill_controller(self) -> None:
        made = self._controller()
        if made is not None:
            self._kill_one(made, with_machine=self._dice.random() < 0.3)

    async def _kill_two(self) -> None:
        """The controller and another at once."""
        first = self._controller()
        if first is None:
            return
        others = self._others(first)
        self._kill_one(first, with_machine=self._dice.random() < 0.3)
        if others:
            self._kill_one(self._dice.choice(others), with_machine=self._dice.random() < 0.3)

    async def _kill_recoverer(self) -> None:
        """A broker is gone, and soon whoever was named to recover its log: dead, silent, or without the store."""
        first = self._any()
        if first is None or len(self._others(first)) < 2:
            return
        self._kill_one(first, with_machine=True)
        self._supervisors.absent.add(first.node)
        self._later(self._dice.uniform(8, 15), lambda: self._supervisors.absent.discard(first.node))
        for _ in range(200):
            await asyncio.sleep(0.05)
            second = self._recoverer(first.node)
            if second is not None:
                break
        else:
            return
        how = self._dice.choice(("dead", "silent", "cut off"))
        if how == "dead":
            self._kill_one(second, with_machine=True)
        else:
            self._cluster.fault(f"{second.process.name} recovers the log of broker {first.node}, and is {how}")
            self._cluster.store.outage(self._dice.uniform(4, 8), process=second.process)
            if how == "silent":
                second.process.pause()
                self._later(self._dice.uniform(4, 8), second.process.resume)

    def _recoverer(self, node: int) -> Incarnation | None:
        """Who is named for a log of `node`, as far as anybody knows."""
        for made in self._supervisors.running:
            image = None if made.broker is None else made.broker.image
            for key, wal in () if image is None else image.wals.items():
                if key[0] == node and wal.recoverer is not None and wal.recoverer[0] != node:
                    found = self._supervisors.current.get(wal.recoverer[0])
                    if found is not None and found.process.alive:
                        return found
        return None

    async def _kill_in_the_middle(self) -> None:
        """Kill when the next write to some part of the bucket is applied, before its answer arrives."""
        cluster, made = self._cluster, self._any()
        if made is None:
            return
        part, skip = self._dice.choice(PARTS), self._dice.randint(0, 3)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def watch(operation: Operation, error: Exception | None) -> None:
            nonlocal skip
            if operation.process is not made.process or part not in operation.key or done.done():
                return
            if operation.name in WRITES:
                skip -= 1
                if skip < 0:
                    done.set_result(None)
                    self._kill_one(made, with_machine=False)

        cluster.store.on_applied.append(watch)
        await asyncio.wait([done], timeout=6)
        done.cancel()
        cluster.store.on_applied.remove(watch)

    async def _stop(self) -> None:
        """SIGTERM: it gives away what it leads. Now and then somebody loses patience."""
        made = self._any()
        if made is None or made.broker is None or made.process.paused:
            return
        self._cluster.fault(f"stop {made.process.name}")
        made.process.call_soon(made.broker.stop)
        patience_s = self._dice.uniform(0, 1) if self._dice.random() < 0.3 else STOP_S_MAX
        self._later(patience_s, lambda: None if made.ended else self._cluster.kill(made))
        await asyncio.sleep(self._dice.uniform(0, 3))

    async def _pause(self) -> None:
        made = self._any()
        if made is not None:
            await self._pause_one(made)

    async def _pause_controller(self) -> None:
        made = self._controller()
        if made is not None:
            await self._pause_one(made)

    async def _pause_one(self, made: Incarnation) -> None:
        """For a moment, about a session, or far longer."""
        seconds = self._dice.choice((0.3, self._dice.uniform(0.6, 4), self._dice.uniform(4, 15)))
        self._cluster.fault(f"pause {made.process.name} for {seconds:.1f} s")
        made.process.pause()
        self._later(seconds, made.process.resume)
        await asyncio.sleep(self._dice.uniform(0, seconds))

    async def _take_over(self) -> None:
        """A supervisor believes a broker dead that is only slow, and starts another of the same node id."""
        old = self._any()
        if old is None:
            return
        self._cluster.fault(f"take over from {old.process.name}")
        how = self._dice.choice(("paused", "cut off", "healthy"))
        if how == "paused":
            old.process.pause()
        elif how == "cut off":
            self._cluster.store.outage(self._dice.uniform(2, 20), process=old.process)
        await asyncio.sleep(self._dice.uniform(0, 2))
        self._supervisors.start(old.node)
        self._later(self._dice.choice((0.2, 1, 4, 15)) * self._dice.uniform(0.5, 1.5), old.process.resume)

    async def _join(self) -> None:
        """A broker that was never there."""
        if len(self._supervisors.current) < BROKERS_MAX:
            node = max(self._supervisors.current) + 1
            self._cluster.fault(f"broker {node} joins")
            self._supervisors.start(node)

    async def _lose(self) -> None:
        """A node is lost for good: others have what it had."""
        made = self._any()
        if made is None or len(self._supervisors.running) < 3:
            return
        self._cluster.fault(f"{made.process.name} is lost for good")
        if self._dice.random() < 0.5:
            self._cluster.network.lose_machine(made.process)
        self._cluster.kill(made)
        self._supervisors.current.pop(made.node, None)

    async def _clock_jump(self) -> None:
        made = self._any()
        if made is not None:
            jump_ms = self._dice.randint(-100_000, 100_000)
            self._cluster.fault(f"the clock of {made.process.name} jumps by {jump_ms} ms")
            made.clock.skew_ms += jump_ms
            self._cluster.clock_jumped_at = self._cluster.loop.time()

    # The network.

    def _cut(self, one: Incarnation, other: Incarnation) -> None:
        """In one direction, or both."""
        network, how = self._cluster.network, self._dice.choice(("both", "to", "from"))
        if how != "from":
            network.cut(one.process, other.process)
        if how != "to":
            network.cut(other.process, one.process)

    async def _for_a_while(self) -> None:
        """Cuts and slow links last so long: all of them heal together."""
        seconds = self._dice.choice((self._dice.uniform(0.2, 2), self._dice.uniform(2, 10)))
        await asyncio.sleep(seconds)
        self._cluster.network.heal()

    async def _cut_two(self) -> None:
        one = self._any()
        others = [] if one is None else self._others(one)
        if one is None or not others:
            return
        other = self._dice.choice(others)
        self._cluster.fault(f"{one.process.name} and {other.process.name} do not reach each other")
        self._cut(one, other)
        await self._for_a_while()

    async def _cut_one_off(self) -> None:
        """From all other brokers, and now and then from the store as well."""
        one = self._dice.choice((self._any, self._controller))()
        if one is None:
            return
        self._cluster.fault(f"{one.process.name} is cut off from the other brokers")
        for other in self._others(one):
            self._cut(one, other)
        if self._dice.random() < 0.3:
            self._cluster.store.outage(self._dice.uniform(1, 10), process=one.process)
        await self._for_a_while()

    async def _cut_from_store(self) -> None:
        made = self._dice.choice((self._any, self._controller))()
        if made is not None:
            seconds = self._dice.choice((self._dice.uniform(0.5, 3), self._dice.uniform(3, 12)))
            self._cluster.fault(f"{made.process.name} does not reach the store for {seconds:.1f} s")
            self._cluster.store.outage(seconds, process=made.process)

    async def _cut_from_clients(self) -> None:
        """Nobody but brokers reaches it, or hears what it says."""
        made = self._any()
        if made is None:
            return
        self._cluster.fault(f"{made.process.name} is cut off from the clients")
        network, is_answer_lost = self._cluster.network, self._dice.random() < 0.5
        for process in self._clients:
            if is_answer_lost:
                network.cut(made.process, process)
            else:
                network.cut(process, made.process)
        await self._for_a_while()

    async def _slow_links(self) -> None:
        """Between two brokers everything is late, in one direction."""
        one = self._any()
        others = [] if one is None else self._others(one)
        if one is None or not others:
            return
        other, most_s = self._dice.choice(others), self._dice.choice((0.3, 1.5, 4.0))
        self._cluster.fault(f"{one.process.name} reaches {other.process.name} up to {most_s} s late")
        self._cluster.network.slow_down(one.process, other.process, most_s)
        await self._for_a_while()

    async def _slow_network(self) -> None:
        rates = self._cluster.network.rates
        self._cluster.fault("slow network that loses connections")
        rates.slow, rates.reset = self._dice.uniform(0, 0.2), self._dice.uniform(0, 0.02)
        await asyncio.sleep(self._dice.uniform(1, 5))
        rates.slow = rates.reset = 0.0

    async def _reset_connections(self) -> None:
        self._cluster.fault(f"{self._cluster.network.reset()} connections reset")

    # The store.
