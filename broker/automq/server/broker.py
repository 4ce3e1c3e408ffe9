"""The composition root: one broker, from its settings to its end.

Order of start: bind the addresses; look at the store until it can be trusted, waiting out what heals; only then claim,
register (which fences a former process of this node), recover write-ahead logs, open partitions, listen. Whatever can
end the process is decided before the claim: a mistaken second start leaves the healthy first alone.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId
from automq.metadata.cluster import OpenedCluster, Prefix
from automq.metadata.image import MetadataImage
from automq.metadata.lease import LeaseContent, LeaseWatch
from automq.metadata.patience import Patience
from automq.metadata.refusal import ClusterInUse, StoreClusterMissing, StoreOwnedByAnother, StoreUnsuitable
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import BrokerFenced, FencedBy, FormatTooNew, StoreDamaged, StreamError
from automq.s3stream.ports import ObjectStorage, StoreError
from automq.s3stream.store.doctor import DoctorReport, run_doctor
from automq.server.after_fence import AfterFence, Former
from automq.server.components import Components
from automq.server.config.setting import Address
from automq.server.config.settings import Settings
from automq.server.lifecycle.refusals import damage_refusal, fenced_message, format_refusal
from automq.server.lifecycle.states import Event, Lifecycle, Reason, Refused, State
from automq.server.observability.journal import Journal
from automq.server.observability.observed_store import ObservedStore
from automq.server.observability.occupancy import Occupancy, OccupancyMetrics
from automq.server.observability.probes import Probes
from automq.server.observability.state_metrics import StateMetrics
from automq.server.observability.store_health import StoreHealth
from automq.server.platform import Accepting, Bound, Platform
from automq.server.wiring import endpoints, internal_address, internal_endpoint, node_of

log = logging.getLogger(__name__)

# With the time that draining may take (20 s) still within the 30 s that Kubernetes gives a process.
CLOSE_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A broker's work in four numbers; bytes are totals."""

    connections: int = 0
    partitions: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


class _Ending(enum.Enum):
    """Why `run` stops waiting, when it is no exception."""

    STOP_ASKED = 1
    FENCED = 2


class Broker:
    """One broker process, or one of many in a simulation."""

    def __init__(self, settings: Settings, platform: Platform, former: Former | None = None) -> None:
        """`former` is the incarnation that ended in this process before; None for the first."""
        self.settings = settings
        self._former = former
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.cluster_id: ClusterId | None = None
        self._platform = platform
        self._node = node_of(settings)
        self._tasks = Tasks(f"broker {self._node}", on_crash=self._on_crash)
        self._health = StoreHealth(
            lifecycle=self.lifecycle,
            clock=platform.clock,
            store=settings.cluster.storage_uri,
            metrics=self.metrics,
            on_hopeless=self._on_hopeless,
        )
        self._probes = Probes(
            lifecycle=self.lifecycle,
            metrics=self.metrics,
            node=self._node,
            cluster_id=lambda: self.cluster_id,
            advertised=lambda: {item.name: str(item.address) for item in settings.advertised()},
            occupancy=self._occupancy,
            damage=self._damage_summary,
            spawn=self._tasks.spawn,
        )
        StateMetrics(self.metrics, lifecycle=self.lifecycle, image=lambda: self.image)
        OccupancyMetrics(self.metrics, self._occupancy)
        self._journal = Journal(
            lifecycle=self.lifecycle, clock=platform.clock, settings=settings, facts=self._ready_facts
        )
        self._bound: dict[str, Bound] = {}
        self._http: Bound | None = None
        self._internal: Bound | None = None
        self._internal_accepting: Accepting | None = None
        self._probing: Accepting | None = None
        self._listening: list[Accepting] = []
        self._store: ObservedStore | None = None
        self._components: Components | None = None
        self._ending: asyncio.Future[_Ending] | None = None
        self._stall_watch = platform.stall_watch(self.metrics)
        self.is_stuck = False
        """Ended, but something of it waits for the store in a way that nothing can interrupt."""
        self._stop_asked = asyncio.Event()
        self._cut_short = asyncio.Event()
        self._is_examining = False
        self._fenced: BrokerFenced | None = None
        self._damage: Refused | None = None

    # What others see.

    @property
    def image(self) -> MetadataImage | None:
        """The newest durable image; None before the claim."""
        return None if self._components is None else self._components.metadata.image

    @property
    def activity(self) -> Activity:
        """What goes on, for a line on a terminal."""
        parts = self._components
        if parts is None or parts.server is None or parts.partitions is None:
            return Activity()
        requests = parts.server.metrics
        return Activity(
            connections=sum(requests.connections.values()),
            partitions=parts.partitions.open_count,
            in_bytes=requests.bytes_in,
            out_bytes=requests.bytes_out,
        )

    @property
    def bootstrap_address(self) -> Address:
        """Where clients of the first listener begin."""
        listener = self.settings.advertised()[0]
        return Address(host=listener.address.host, port=listener.address.port or self._bound[listener.name].port)

    @property
    def http_address(self) -> Address:
        """Where the probes are answered."""
        assert self._http is not None
        return Address(host=self.settings.server.http.host, port=self._http.port)

    def _ready_facts(self) -> dict[str, object]:
        assert self._components is not None
        image = self._components.metadata.image
        return {
            "cluster": self._components.cluster_id,
            "bootstrap": self.bootstrap_address,
            "http": self.http_address,
            "topics": sum(not topic.is_internal for topic in image.topics()),
            "partitions": sum(len(topic.partitions) for topic in image.topics()),
            "recovered_logs": 0 if self._components.recovery is None else self._components.recovery.recovered_logs,
        }

    def _damage_summary(self) -> str | None:
        return None if self._components is None else self._components.damage_summary()

    def _occupancy(self) -> Occupancy | None:
        """None before this process is registered."""
        watch = None if self._components is None else self._components.occupancy
        return None if watch is None else watch.now

    def every(self, interval_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` at that interval as long as the broker runs."""

        async def repeat() -> None:
            while True:
                await asyncio.sleep(interval_s)
                callback()

        _ = self._tasks.spawn(repeat(), name="observer")

    # Life.

    def stop(self) -> None:
        """Told to stop. A second time: at once."""
        (self._cut_short if self._stop_asked.is_set() else self._stop_asked).set()
        self._end(_Ending.STOP_ASKED)

    async def run(self) -> None:
        """Until told to stop. Raises Refused when the process must end, and whatever a bug raised.

        Raises MayRejoin when this incarnation is fenced and another `Broker` of this process may take its place.
        """
        self._ending = asyncio.get_running_loop().create_future()
        if self._stop_asked.is_set():
            self._end(_Ending.STOP_ASKED)
        self._stall_watch.start()
        self._journal.start()
        try:
            self._bind()
            assert self._http is not None
            self._probing = await self._platform.network.accept(self._http, self._probes.protocol)
            starting = self._tasks.spawn(self._start(), name="start")
            ending = await self._ending
            was_serving = self.lifecycle.state is State.SERVING
            starting.cancel()
            self._raise_damage()
            if ending is _Ending.FENCED:
                await self._stay_fenced()
            self.lifecycle.move(Event.STOP_ASKED, "stopping: answering what is in flight, uploading the tail")
            if was_serving and ending is _Ending.STOP_ASKED:
                await self._drain()
            self._raise_damage()
        finally:
            await self._close()
            self._journal.end()

    def _end(self, ending: _Ending | BaseException) -> None:
        if self._ending is None or self._ending.done():
            return
        if isinstance(ending, _Ending):
            self._ending.set_result(ending)
        else:
            self._ending.set_exception(ending)

    def _raise_damage(self) -> None:
        """Raises Refused for damage that was found after the end was decided."""
        if self._damage is not None:
            raise self._damage

    def _on_crash(self, _name: str, error: BaseException) -> None:
        """A task that nobody awaits has ended. What the world did ends the broker as it does anywhere else."""
        match error:
            case StoreDamaged():
                self._on_damaged(error)
            case BrokerFenced():
                self._on_fenced(error)
            case LogFenced():
                self._on_fenced(BrokerFenced(str(error), by=FencedBy.METADATA_LOG))
            case FormatTooNew():
                self._end(format_refusal(error, self.settings.cluster.storage_uri))
            case StoreOwnedByAnother():
                self._end(self._refused(Reason.STORE_OWNED_BY_ANOTHER, error))
            case StoreUnsuitable():
                self._end(self._refused(Reason.STORE_UNSUITABLE, error))
            case _:
                self._end(error)

    def _bind(self) -> None:
        """Take every address, before the store is touched. Raises Refused."""
        for listener in self.settings.node.listeners:
            self._bound[listener.name] = self._bind_one(listener.address, f"listener {listener.name}")
        self._internal = self._bind_one(self.settings.internal_listener(), "automq.internal.listener")
        self._http = self._bind_one(self.settings.server.http, "automq.http.address")

    def _bind_one(self, address: Address, what: str) -> Bound:
        """Raises Refused, which names what the address was for."""
        try:
            return self._platform.network.bind(address)
        except Refused as refused:
            raise Refused(refused.reason, f"{what}: {refused.message}") from refused

    # Start.

    async def _start(self) -> None:
        try:
            opened = await self._open_prefix()
            self.cluster_id = opened.cluster_id
            self._journal.cluster_found(opened.cluster_id, is_new=opened.formatted)
            if opened.weaknesses:
                log.warning("the store is unsuitable, and used all the same: %s", opened.weaknesses)
            await self._take_over(opened)
        except Refused as refused:
            self._end(refused)
        except ClusterInUse as error:
            self._end(self._refused(Reason.CLUSTER_IN_USE, error))
        except StoreUnsuitable as error:
            self._end(self._refused(Reason.STORE_UNSUITABLE, error))
        except StoreOwnedByAnother as error:
            self._end(self._refused(Reason.STORE_OWNED_BY_ANOTHER, error))
        except FormatTooNew as error:
            self._end(format_refusal(error, self.settings.cluster.storage_uri))
        except StoreDamaged as error:
            self._on_damaged(error)
        except LogFenced as fenced:
            # A fence after the claim was told already: only the first counts.
            self._on_fenced(BrokerFenced(str(fenced), by=FencedBy.CLAIM))
        except BrokerFenced as fenced:
            self._on_fenced(fenced)

    async def _open_prefix(self) -> OpenedCluster:
        """Look, and format what is empty; nothing of a running cluster is touched. Raises Refused."""
        self.lifecycle.set_reason(f"looking at {self.settings.cluster.storage_uri}")
        self._store = ObservedStore(
            self._platform.open_store(self.settings, self.metrics),
            clock=self._platform.clock,
            metrics=self.metrics,
            health=self._health,
        )
        prefix = Prefix(
            store=self._store,
            examine=self._examine,
            clock=self._platform.clock,
            entropy=self._platform.entropy,
            tasks=self._tasks,
            # The store itself tells of its outcomes.
            patience=Patience(entropy=self._platform.entropy, on_store=lambda _error: None),
        )
        cluster = self.settings.cluster
        try:
            return await prefix.open_or_format(cluster_id=cluster.cluster_id, owner=cluster.owner, adopt=cluster.adopt)
        except StoreClusterMissing as error:
            raise self._refused(Reason.STORE_CLUSTER_MISSING, error) from error

    def _refused(self, reason: Reason, error: Exception) -> Refused:
        return Refused(reason, f"{self.settings.cluster.storage_uri}: {error}")

    async def _examine(self) -> DoctorReport:
        assert self._store is not None
        self.lifecycle.set_reason(f"examining {self.settings.cluster.storage_uri} before it is first used")
        self._is_examining = True
        try:
            report = await run_doctor(
                self._store,
                name=self.settings.cluster.storage_uri,
                clock=self._platform.clock,
                entropy=self._platform.entropy,
            )
        finally:
            self._is_examining = False
        # What it was refused is in its report.
        self._health.forget()
        return report

    def _on_hopeless(self, refused: Refused) -> None:
        """No waiting heals this. After the claim it is waited for all the same, in case somebody changes the store."""
        # What the doctor is refused it asked to find out.
        if self._components is None and not self._is_examining:
            self._end(refused)

    async def _take_over(self, opened: OpenedCluster) -> None:
        """Claim, register, recover, open, serve."""
        assert self._store is not None
        watch = LeaseWatch(store=self._store, cluster_id=opened.cluster_id, clock=self._platform.clock)
        # The store itself tells of its outcomes.
        await Patience(entropy=self._platform.entropy, on_store=lambda _error: None).retry_forever(watch.poll)
        self._components = components = Components(
            settings=self.settings,
            platform=self._platform,
            store=self._store,
            cluster_id=opened.cluster_id,
            metrics=self.metrics,
            tasks=self._tasks,
            on_fenced=self._on_fenced,
            on_damaged=self._on_damaged,
            former=self._former,
            trusted_before=None if watch.content is None else watch.content.time,
        )
        assert self._internal is not None
        where = internal_address(self.settings, self._internal.port)
        self._internal_accepting = await self._platform.network.accept(
            self._internal, components.roles.listener.protocol
        )
        self.lifecycle.set_reason("looking for the controller of the cluster")
        await components.join(opened, where)
        ports = {name: bound.port for name, bound in self._bound.items()}
        registration = await components.register([*endpoints(self.settings, ports), internal_endpoint(where)])
        logs = f"{len(registration.wals)} write-ahead logs of former processes"
        self.lifecycle.move(Event.REGISTERED, f"recovering {logs}")
        await components.recover(registration)
        self.lifecycle.set_reason("opening partitions")
        server = await components.open()
        for name, bound in self._bound.items():
            factory = server.protocol_factory(name)
            self._listening.append(await self._platform.network.accept(bound, factory))
        # Not before clients can connect: whoever sees the state may send them here.
        self.lifecycle.move(Event.RECOVERED, "serving")

    # End.

    def _on_fenced(self, fenced: BrokerFenced) -> None:
        """Another process has taken over. Synchronous: nothing is acknowledged or answered from now on."""
        if not self.lifecycle.can(Event.FENCED):
            return
        log.warning("fenced", extra={"by": fenced.by.value, "why": str(fenced)})
        self._fenced = fenced
        self._fall_silent(fenced)
        self.lifecycle.move(Event.FENCED, self._fenced_message(None), Reason.FENCED)
        self._end(_Ending.FENCED)

    def _fenced_message(self, successor: LeaseContent | None) -> str:
        assert self._fenced is not None
        return f"{fenced_message(self._fenced, successor)}; this one serves nobody"

    def _on_damaged(self, error: StoreDamaged) -> None:
        """What acknowledgements rest on is lost or damaged. Synchronous: nothing is answered from now on.

        The key is left as it is, and the process ends: its next start looks at the store before it takes anything over.
        """
        if not self.lifecycle.can(Event.DAMAGED):
            return
        log.error("the store is damaged", extra={"key": error.key, "why": str(error)})
        self._damage = damage_refusal(error, self.settings.cluster.storage_uri)
        self._fall_silent(error)
        self.lifecycle.move(Event.DAMAGED, self._damage.message, self._damage.reason)
        self._cut_short.set()
        self._end(self._damage)

    def _fall_silent(self, error: BrokerFenced | StoreDamaged) -> None:
        if self._components is not None:
            self._components.halt(error)
        self._stop_listening()

    async def _stay_fenced(self) -> None:
        """Do nothing until told to stop, or until it is known what has become of this incarnation: see `after_fence`.

        Raises MayRejoin where its node has no other, Refused once its successor is gone.
        """
        assert self._fenced is not None
        assert self._components is not None
        assert self._store is not None
        components = self._components
        known = components.roles.known
        await components.close()

        def name_successor(content: LeaseContent) -> None:
            if content.epoch > components.roles.held_epoch:
                self.lifecycle.set_reason(self._fenced_message(content), Reason.FENCED)

        after = AfterFence(
            store=self._store,
            cluster_id=components.cluster_id,
            node=self._node,
            epoch=components.newest_epoch,
            incarnation=components.incarnation,
            held_epoch=components.roles.held_epoch,
            clock=self._platform.clock,
            entropy=self._platform.entropy,
            tasks=self._tasks,
        )
        message = fenced_message(self._fenced)
        await after.wait(message, known=known, stop_asked=self._stop_asked, on_lease=name_successor)

    async def _drain(self) -> None:
        """Answer what is in flight, upload the tail, trim; at the latest when the time is up."""
        timeout_s = self.settings.server.shutdown_timeout_ms / 1000
        draining = self._tasks.spawn(self._drain_whole(), name="drain")
        second_stop = self._tasks.spawn(self._cut_short.wait(), name="wait for a second stop")
        await asyncio.wait({draining, second_stop}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            try:
                draining.result()
            except (StoreError, StreamError, LogFailed, LogFenced) as error:
                log.warning("the tail was not uploaded; the next start does it", extra={"why": str(error)})
        else:
            log.warning("stopped before the tail was uploaded; the next start recovers it from the write-ahead log")

    async def _drain_whole(self) -> None:
        self._stop_listening()
        assert self._components is not None
        await self._components.drain()

    def _stop_listening(self) -> None:
        for listening in self._listening:
            listening.close()
        self._listening.clear()

    async def _close(self) -> None:
        """Everything that is open, whatever state it is in."""
        self._health.close()
        self._stop_listening()
        if self._components is not None:
            await self._components.close()
        running = await self._tasks.close(timeout_s=CLOSE_S)
        for accepting in (self._probing, self._internal_accepting):
            if accepting is not None:
                accepting.close()
        self._probes.close()
        for bound in self._bound.values():
            bound.close()
        for taken in (self._internal, self._http):
            if taken is not None:
                taken.close()
        if self._store is not None and not running:
            closing = Tasks(f"end of broker {self._node}", on_crash=lambda _name, _error: None)
            _ = closing.spawn(self._close_store(self._store), name="close the store")
            running = await closing.end(timeout_s=CLOSE_S)
        if running:
            log.error("the store hangs: the process ends without waiting for it", extra={"tasks": ", ".join(running)})
            self.is_stuck = True
        for workers in (self._platform.workers, self._platform.store_workers):
            if workers is not None:
                workers.close(timeout_s=0.0 if running else CLOSE_S)
        self._stall_watch.close()

    async def _close_store(self, store: ObjectStorage) -> None:
        try:
            await store.close()
        except StoreError as error:
            # What it could not tidy up, the next process on this store does.
            log.warning("the store was not closed tidily", extra={"why": str(error)})
