"""A whole cluster in one loop: the bucket, the network, and broker processes that are started, paused and killed.

Every process has its own address, its own clock and its own way to the store. Two processes may have the same node
id: that is what a supervisor makes of a broker that is only slow. What the cluster watches, because only it sees all:

- a process that has read its fence answers nobody any more;
- a slot's bytes never change between tries;
- no object is deleted that a durable image refers to;
- a broker ends by itself only for the reasons it may have.
"""

import asyncio
import collections
import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from automq.ids import ClusterId
from automq.metadata.log_format import decode_slot, parse_slot_key, parse_snapshot_key, slot_key
from automq.metadata.records import BrokerFenced, ObjectsDeleted, ObjectsDestroyed, PartitionsMoving
from automq.runtime.entropy import SeededEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.objects.format import parse_object_key
from automq.server.after_fence import Former, MayRejoin
from automq.server.broker import Broker
from automq.server.config.setting import Machine
from automq.server.config.settings import build_settings
from automq.server.lifecycle.states import Reason, Refused, State
from automq.server.platform import Platform
from automq.server.roles import Roles
from automq.server.surroundings import Surroundings
from tests.support.damage import Bucket
from tests.support.faults import WRITES, Fate, Operation, ProcessStore, SimStore
from tests.support.network import SimNetwork
from tests.support.sim_loop import OWNER, Process, SimLoop
from tests.support.sim_platform import TUNING, WALL_START_MS, LateRoles, ProcessNetwork, SimClock

PORT = 9092
HTTP_PORT = 9404
LINK_PORT = 9093
TRACE_TAIL = 400
# Between the fence of a process that begins anew and its next incarnation.
REJOIN_S = 1.0
# A write that takes longer than a slow one has been given up by its sender.
LATE_S = 2.5

# Small everything: a seed must cost little, and limits that are never reached are never tested.
SETTINGS: Mapping[str, str] = {
    "automq.storage.uri": "memory:",
    "automq.wal.interval.ms": "40",
    "automq.wal.batch.bytes": "65536",
    "automq.wal.in.flight": "4",
    "automq.arena.bytes": str(16 * 1024 * 1024),
    "automq.block.cache.bytes": str(1024 * 1024),
    "automq.upload.bytes": str(1024 * 1024),
    "automq.upload.interval.ms": "2500",
    "group.initial.rebalance.delay.ms": "300",
    "offsets.topic.num.partitions": "2",
    "log.retention.check.interval.ms": "20000",
}


@dataclass(slots=True, kw_only=True)
class Incarnation:
    """One broker process from start to end."""

    process: Process
    node: int
    store: ProcessStore
    clock: SimClock
    broker: Broker | None = None
    ended: bool = False
    expected: frozenset[Reason] = frozenset()
    former: Former | None = None
    """The incarnation that it goes on from: it is no process that somebody has started."""
    reason: Reason | None = None
    fence_read_at: float | None = None
    started_at: float = 0.0
    over_at: float | None = None
    """Since when nothing that it writes is expected any more: it was killed, has ended, or another has taken over."""

    @property
    def is_serving(self) -> bool:
        """Up, running and in the state that says so."""
        return (
            self.process.alive
            and not self.process.paused
            and not self.ended
            and self.broker is not None
            and self.broker.lifecycle.state is State.SERVING
        )


class Cluster:
    """See the module."""

    def __init__(
        self,
        seed: int | str,
        loop: SimLoop,
        *,
        settings: Mapping[str, str] | None = None,
        tuning: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.dice = random.Random(f"cluster {seed}")
        self.bucket = Bucket(now_ms=lambda: WALL_START_MS + int(loop.time() * 1000))
        self.store = SimStore(self.bucket, loop, random.Random(f"store {seed}"))
        self.network = SimNetwork(loop, random.Random(f"network {seed}"))
        self.settings = {**SETTINGS, **(settings or {})}
        self.tuning = dict(tuning or {})
        self.incarnations: list[Incarnation] = []
        self.violations = self.store.violations
        self.faults: list[str] = []
        self.trace_tail: collections.deque[str] = collections.deque(maxlen=TRACE_TAIL)
        self.events = 0
        self.serving_since = 0.0
        """When a process last began to serve."""
        self.moved_at = 0.0
        """When a partition last began to move from a broker to another."""
        self._states: dict[str, State] = {}
        self._hash = hashlib.blake2b(digest_size=8)
        self._creators: dict[str, Process] = {}
        self._tries: dict[tuple[Process, str], bytes] = {}
        self._by_process: dict[Process, Incarnation] = {}
        self._claimant: Process | None = None
        self._claimed_at = 0.0
        self.on_rejoined: list[Callable[[Incarnation, Incarnation], None]] = []
        """Called with the incarnation that has ended, and the one that its process goes on as."""
        self.strangers: set[str] = set()
        """Keys that nobody of ours has put into the bucket."""
        self.clock_jumped_at: float | None = None
        """When the clock of a process was last turned."""
        self._newest_write: dict[str, tuple[Operation, float]] = {}
        """By key: the newest create or put that took effect, and when."""
        self.writes: list[tuple[float, str, str]] = []
        """Everything that took effect in the bucket: when it was sent, what, which key."""
        self._slots: dict[str, bytes] = {}
        """Of the metadata log, by key: those that were trimmed since, too."""
        self.store.trace = self.network.trace = self.trace
        self.store.on_applied.append(self._on_applied)
        self.network.on_write = self._on_write

    # What happens.

    def trace(self, *fields: Any) -> None:
        """One line of the run's story; all of them together are its fingerprint."""
        self.events += 1
        line = f"{self.loop.time():10.4f} {' '.join(map(str, fields))}"
        self._hash.update(line.encode())
        self.trace_tail.append(line)

    @property
    def fingerprint(self) -> str:
        """Equal for equal runs."""
        return f"{self._hash.hexdigest()}-{self.events}-{self.loop.handles_run}"

    def violation(self, what: str) -> None:
        """Something that must not be."""
        self.trace("VIOLATION", what)
        if len(self.violations) < 20:
            self.violations.append(what)

    def fault(self, what: str) -> None:
        """The director did something."""
        self.faults.append(what)
        self.trace("FAULT", what)

    # Brokers.

    def start(
        self,
        node: int = 1,
        *,
        settings: Mapping[str, str] | None = None,
        host: str | None = None,
        expected: Reason | Iterable[Reason] = (),
        former: Former | None = None,
    ) -> Incarnation:
        """A new process for `node`, on a host of its own unless one is named; `expected` is how it may end.

        With `former` it is one that goes on after its fence; that it has a host of its own is of no account.
        """
        reasons = frozenset({expected} if isinstance(expected, Reason) else expected)
        process = Process(self.loop, f"b{node}-{len(self.incarnations) + 1}")
        process.context.run(TUNING.set, self.tuning)
        made = Incarnation(
            process=process,
            node=node,
            store=self.store.facade(process),
            clock=SimClock(self.loop, self.dice),
            expected=reasons,
            former=former,
            started_at=self.loop.time(),
        )
        for other in self.incarnations:
            # Who begins anew takes nobody's place: its own incarnation ends by itself.
            if other.node == node and former is None:
                self._is_over(other)
        made.store.on_read = lambda key, data: self._on_read(made, key, data)
        self.incarnations.append(made)
        self._by_process[process] = made
        self.trace("start", process.name)
        host = host or process.name
        texts = {
            **self.settings,
            "node.id": str(node),
            "listeners": f"PLAINTEXT://{host}:{PORT}",
            "automq.http.address": f"{host}:{HTTP_PORT}",
            "automq.internal.listener": f"{host}:{LINK_PORT}",
            **(settings or {}),
        }
        process.spawn(self._run(made, texts), name="broker")
        return made

    async def _run(self, made: Incarnation, texts: Mapping[str, str]) -> None:
        name = made.process.name
        platform = Platform(
            clock=made.clock,
            entropy=SeededEntropy(f"{self.seed} {name}"),
            workers=InlineWorkers(),
            network=ProcessNetwork(self.network, made.process),
            open_store=lambda settings, metrics: made.store,
            roles=self._roles,
        )
        broker = made.broker = Broker(build_settings(texts, machine=Machine(hostname=name)), platform, made.former)
        broker.lifecycle.subscribe(lambda: self._on_state(name, broker.lifecycle.state))
        try:
            await broker.run()
        except MayRejoin as rejoin:
            made.reason = Reason.FENCED
            await asyncio.sleep(REJOIN_S)
            self._begin_anew(made, rejoin.former)
        except Refused as refused:
            made.reason = refused.reason
            if refused.reason is not Reason.FENCED and refused.reason not in made.expected:
                self.violation(f"{name} ended with {refused.reason.value}: {refused.message}")
        except BaseException as error:
            self.violation(f"{name} ended because of a bug: {type(error).__name__}: {error}")
            logging.getLogger("tests.sim").exception("a broker ended because of a bug")
        made.ended = True
        self._is_over(made)
        self.trace("end", name, made.reason)

    def _begin_anew(self, made: Incarnation, former: Former) -> None:
        """As the process itself does it: nobody has started it."""
        following = self.start(made.node, expected=made.expected, former=former)
        for callback in self.on_rejoined:
            callback(made, following)

    def _is_over(self, made: Incarnation) -> None:
        if made.over_at is None:
            made.over_at = self.loop.time()

    def _roles(self, around: Surroundings) -> Roles:
        """As the tuning says: at once, late, or as if the controller were elsewhere, over the network."""
        tuning = self.tuning.get("metadata", {})
        if lag_s := tuning.get("lag_s", 0.0) if not tuning.get("is_remote") else 0.0:
            return LateRoles(around, lag_s=lag_s)
        return Roles(around, is_direct=not tuning.get("is_remote"))

    def _on_state(self, name: str, state: State) -> None:
        self.trace("state", name, state.value)
        # Told of each new message, too.
        if state is State.SERVING and self._states.get(name) is not state:
            self.serving_since = self.loop.time()
        self._states[name] = state

    def kill(self, made: Incarnation) -> None:
        """SIGKILL."""
        self._is_over(made)
        made.process.kill()

    @property
    def serving(self) -> list[Incarnation]:
        """Processes that serve, as far as they know."""
        return [made for made in self.incarnations if made.is_serving]

    @property
    def live(self) -> list[Incarnation]:
        """Processes that are neither killed nor ended; paused ones too."""
        return [made for made in self.incarnations if made.process.alive and not made.ended]

    def addresses(self) -> list[tuple[str, int]]:
        """Where clients may begin to ask: every address that is taken."""
        return [address for address in self.network.listeners if address[1] == PORT]

    def is_due_by_itself(self, key: str) -> bool:
        """What an idle cluster may write: the lease, and that objects are gone, whose time came without a client.

        A snapshot, too, where the newest record that it includes is such a one: that one has made it due.
        """
        cluster_id = ClusterId(key.partition("/")[0])
        included = parse_snapshot_key(key)
        if included is not None:
            key = slot_key(cluster_id, included)
        position = parse_slot_key(key)
        if position is None:
            return key.endswith("/meta/lease")
        # By now a newer snapshot may have let the slot itself go.
        slot = decode_slot(cluster_id, position, self._slots[key])
        return all(isinstance(record, ObjectsDestroyed | ObjectsDeleted) for record in slot.records)

    @property
    def is_compacting(self) -> bool:
        """Whether a process that serves has found something to compact when it looked last."""
        parts = [made.broker._components for made in self.serving if made.broker is not None]
        return any(part is not None and part.compactor is not None and part.compactor.is_busy for part in parts)

    def check_idle_since(self, began: float) -> None:
        """Nothing was written but what is due by itself, and that once."""
        written: set[str] = set()
        for when, name, key in self.writes:
            if when <= began or name == "delete":
                continue
            if not self.is_due_by_itself(key):
                self.violation(f"an idle broker wrote {key} at {when:.3f}")
            elif key in written and not key.endswith("/meta/lease"):
                self.violation(f"an idle broker wrote {key} again at {when:.3f}")
            written.add(key)

    def is_stale(self, address: tuple[str, int]) -> bool:
        """Whether who answers there has been superseded, known or unknown to itself.

        Until it reads of its fence it answers from what was true before; what it says then is old, not wrong.
        """
        if self._has_several_nodes:
            found = [made for made in self.incarnations if made.process.name == address[0]]
            return not found or [made for made in self.incarnations if made.node == found[0].node][-1] is not found[0]
        return self._claimant is None or self._claimant.name != address[0]

    @property
    def _has_several_nodes(self) -> bool:
        """Whether losing the claim is no end of a broker."""
        return len({made.node for made in self.incarnations}) > 1

    def landed_late(self, key: str) -> bool:
        """Whether what lies at `key` was put there when nobody expected it any more."""
        operation, landed_at = self._newest_write[key]
        if self._has_several_nodes:
            over_at = self._by_process[operation.process].over_at
            superseded = over_at is not None and landed_at > over_at
        else:
            superseded = operation.process is not self._claimant and landed_at > self._claimed_at
        came_again = operation.fate in (Fate.LATE, Fate.REPEATED)
        return came_again or superseded or landed_at - operation.sent_at > LATE_S

    def close(self) -> None:
        """Look at what the loop has kept for itself."""
        for failure in self.loop.failures:
            self.violation(f"unexpected: {failure}")

    # What is watched.

    def _on_applied(self, operation: Operation, error: Exception | None) -> None:
        if operation.name in WRITES:
            self.writes.append((operation.sent_at, operation.name, operation.key))
        if operation.body is not None and error is None:
            self._newest_write[operation.key] = operation, self.loop.time()
        if operation.name == "create" and error is None:
            self._creators[operation.key] = operation.process
            if "/meta/log/" in operation.key and operation.body is not None:
                self._slots[operation.key] = operation.body
                if self._has_several_nodes:
                    self._look_at_records(operation.key, operation.body)
            if "/meta/claims/" in operation.key:
                self._claimant, self._claimed_at = operation.process, self.loop.time()
        if operation.name == "create" and operation.body is not None:
            self._check_same_bytes(operation, operation.body)
        if operation.name == "delete" and "/data/" in operation.key:
            self._check_unreferenced(operation.key)

    def _look_at_records(self, key: str, body: bytes) -> None:
        """A broker that is fenced, and that another one recovers, is over from now on, whether it knows or not."""
        position = parse_slot_key(key)
        assert position is not None
        for record in decode_slot(ClusterId(key.partition("/")[0]), position, body).records:
            if isinstance(record, PartitionsMoving):
                self.moved_at = self.loop.time()
            if isinstance(record, BrokerFenced) and record.recoverer_node != record.node:
                for made in self.incarnations:
                    if made.node == record.node:
                        self._is_over(made)

    def _check_same_bytes(self, operation: Operation, body: bytes) -> None:
        """A data slot is asked again with the same bytes until its outcome is known."""
        if not is_log_slot(operation.key) or is_fence(operation.key, body):
            return
        before = self._tries.setdefault((operation.process, operation.key), body)
        if before != body:
            self.violation(f"{operation.process.name} wrote {operation.key} with different bytes in different tries")

    def _check_unreferenced(self, key: str) -> None:
        object_id = parse_object_key(key)
        for made in self.live:
            # One that was superseded may refer to it until it learns of that.
            if made.process is not self._claimant or made.broker is None:
                continue
            # What the controller has published: its broker may know of it later.
            parts = made.broker._components
            controller = None if parts is None else parts.roles.controller
            image = None if controller is None else controller._publisher.image
            if image is not None and object_id in image.committed and object_id not in image.unreferenced:
                self.violation(f"{key} was deleted, and {made.process.name} still refers to it")

    def _on_read(self, made: Incarnation, key: str, data: bytes) -> None:
        """`made` has just read `data`: is it the fence of one of its own logs?"""
        if made.fence_read_at is not None or not is_log_slot(key) or not is_fence(key, data):
            return
        is_remote = self.tuning.get("metadata", {}).get("is_remote")
        if "/meta/log/" in key and (is_remote or self._has_several_nodes):
            # It follows the log as one whose controller is elsewhere: losing the claim is then no fence of the broker.
            return
        folder = key.rpartition("/")[0]
        own = any(process is made.process and tried.startswith(folder) for process, tried in self._tries)
        if own and self._creators.get(key) is not made.process:
            made.fence_read_at = self.loop.time()
            self.trace("fence-read", made.process.name, key)

    def _on_write(self, process: Process) -> None:
        made = self._by_process.get(process)
        if made is None or made.fence_read_at is None or OWNER.get() is not process:
            return
        # What was in hand when the fence was read may still be finished in that moment, not later.
        if self.loop.time() > made.fence_read_at:
            self.violation(f"{process.name} answers, having read its fence at {made.fence_read_at:.3f}")
            made.fence_read_at = float("inf")

    async def wait_serving(self, timeout_s: float) -> bool:
        """Until some process serves."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.serving:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return False
        return True


def is_log_slot(key: str) -> bool:
    """A slot of the metadata log or of a WAL."""
    return "/meta/log/" in key or "/wal/" in key


def is_fence(key: str, data: bytes) -> bool:
    """Both logs have the slot's kind at byte 5, and 2 means fence."""
    return is_log_slot(key) and len(data) > 5 and data[5] == 2
