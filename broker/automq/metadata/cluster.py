"""Whose prefix is this? Decided before the first claim or fence: a mistaken start must not hurt a healthy cluster.

The key `cluster` says which cluster the prefix holds. It is created if absent, never changed, and erased last. It is
JSON: cluster id, format version, what the doctor found when the prefix was formatted, and a checksum. Everything else
of the cluster lies in the folder of that id, so that nothing of an erased predecessor can ever be read as ours.

A key without a checksum is from before there were any: it is good where claims and folders agree with it.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.claim import NO_EPOCH, claim_for_format
from automq.metadata.evidence import (
    check_layout,
    check_objects,
    check_tail,
    find_clusters,
    find_traces,
    unknown_object,
)
from automq.metadata.lease import LeaseWatch
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.log_format import claim_key, parse_claim_key
from automq.metadata.patience import Patience
from automq.metadata.refusal import StoreClusterMissing, StoreOwnedByAnother, StoreUnsuitable
from automq.metadata.sealed import seal, unseal
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import CorruptData, FormatTooNew, StoreDamaged
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.doctor import DoctorReport, Outcome
from automq.s3stream.store.layout import CLUSTER_KEY, KeyKind, is_folder_marker, parse_key_of

FORMAT_VERSION: Final = 1
# Three renewals of a lease that is renewed every five seconds.
LEASE_SPAN_S: Final = 15.0
LOOK_INTERVAL_S: Final = 1.0
PAGE_KEYS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKey:
    """What the key `cluster` says."""

    cluster_id: ClusterId
    format_version: int
    verdict: dict[str, Any]
    has_checksum: bool = True
    """False for a key from before there were checksums, and for one that somebody wrote by hand."""

    def encode(self) -> bytes:
        """Readable JSON: people look at it."""
        fields = {"clusterId": self.cluster_id, "formatVersion": self.format_version, "doctor": self.verdict}
        return seal(fields, indent=1) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCluster:
    """A prefix that this process may run."""

    cluster_id: ClusterId
    formatted: bool
    """It was empty and is a new cluster now."""
    recorded_owner: str | None
    """What the metadata log said before we claim it."""
    loaded: Loaded
    """The metadata log, read and compared with what else is there."""
    newest_epoch: ControllerEpoch
    """The highest controller epoch that anything knows of: the next claim is above it."""
    weaknesses: str = ""
    """What the doctor required in vain when the prefix was formatted; empty when there is nothing."""


def decode_cluster_key(data: bytes) -> ClusterKey:
    """Raises FormatTooNew, CorruptData. One without a checksum is to be compared with claims and folders."""
    damaged = CorruptData(key=CLUSTER_KEY, offset=0, length=len(data), what="cluster key")
    try:
        fields, has_checksum = unseal(data)
        version = int(fields["formatVersion"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged from error
    if version > FORMAT_VERSION:
        raise FormatTooNew(key=CLUSTER_KEY, version=version, supported=FORMAT_VERSION)
    cluster_id, verdict = fields.get("clusterId"), fields.get("doctor", {})
    if not isinstance(cluster_id, str) or not cluster_id or not isinstance(verdict, dict):
        raise damaged
    return ClusterKey(
        cluster_id=ClusterId(cluster_id), format_version=version, verdict=verdict, has_checksum=has_checksum
    )


def weaknesses_of(verdict: Mapping[str, Any]) -> str:
    """Required checks of the doctor that had failed, from its recorded report; empty when there is none."""
    checks = verdict.get("checks", ())
    return "; ".join(
        f"{check.get('name')}: {check.get('detail')}, so {check.get('consequence')}"
        for check in (checks if isinstance(checks, list) else ())
        if isinstance(check, dict) and check.get("required") and check.get("outcome") == Outcome.FAILED
    )


def erasing_key(cluster_id: ClusterId) -> str:
    """Exists while the cluster is being erased, and after an erase that did not end."""
    return f"{cluster_id}/erasing"


def new_cluster_id(entropy: Entropy) -> ClusterId:
    """22 characters that begin with a letter or a digit, so that no tool takes one for an option."""
    while True:
        text = base64.urlsafe_b64encode(entropy.token(16)).decode().rstrip("=")
        if text[0] not in "-_":
            return ClusterId(text)


async def read_cluster_key(store: ObjectStorage) -> ClusterKey | None:
    """None when there is none. Raises FormatTooNew, CorruptData, StoreError."""
    try:
        return decode_cluster_key(await store.get(CLUSTER_KEY))
    except ObjectNotFound:
        return None


async def first_foreign_key(store: ObjectStorage) -> str | None:
    """The first key of a prefix without a cluster that keeps it from being empty. Raises StoreError.

    What a doctor left behind does not, nor do the markers that consoles put where somebody made a folder, nor what is
    left of a format that did not end.
    """
    start_after = ""
    while True:
        infos = await store.list("", start_after=start_after, limit=PAGE_KEYS)
        for info in infos:
            is_doctors = parse_key_of(KeyKind.DOCTOR, info.key) is not None
            is_of_format = parse_claim_key(info.key) == NO_EPOCH
            if not is_doctors and not is_of_format and not is_folder_marker(info.key, info.size):
                return info.key
        if len(infos) < PAGE_KEYS:
            return None
        start_after = infos[-1].key


class Prefix:
    """The prefix of one store, seen by a process that wants to run it."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        examine: Callable[[], Awaitable[DoctorReport]],
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        patience: Patience,
    ) -> None:
        self._store = store
        self._examine = examine
        self._clock = clock
        self._entropy = entropy
        self._tasks = tasks
        self._patience = patience

    async def open_or_format(
        self,
        *,
        cluster_id: str | None,
        owner: str | None,
        adopt: str | None,
        lease_span_s: float = LEASE_SPAN_S,
    ) -> OpenedCluster:
        """What this process may claim next. Waits while the store fails.

        Raises StoreUnsuitable, StoreOwnedByAnother, StoreClusterMissing, FormatTooNew, CorruptData;
        nothing was changed then.
        """
        formatted = False
        found = await self._read()
        if found is None:
            found = await self._check_empty(cluster_id, adopt)
        if found is None:
            found = await self._format()
            formatted = True
        check_named(found.cluster_id, cluster_id)
        await self._check_not_erasing(found.cluster_id)
        loaded, newest_epoch = await self._load(found.cluster_id)
        recorded = loaded.image.prefix_owner
        if not may_run(recorded=recorded, owner=owner):
            check_adoption(found.cluster_id, recorded=recorded, adopt=adopt)
            await self._check_lease_silent(found.cluster_id, recorded, lease_span_s)
        return OpenedCluster(
            cluster_id=found.cluster_id,
            formatted=formatted,
            recorded_owner=recorded,
            loaded=loaded,
            newest_epoch=newest_epoch,
            weaknesses=weaknesses_of(found.verdict),
        )

    async def _load(self, cluster_id: ClusterId) -> tuple[Loaded, ControllerEpoch]:
        """The metadata log, and the newest controller epoch. Raises StoreDamaged, FormatTooNew; nothing was touched.

        Rule: what is there is compared with what must be there, before the claim.
        """
        traces = await find_traces(self._store, cluster_id, self._patience)
        others: Sequence[ClusterId] = ()
        if traces.claimed is None:
            folders = await self._patience.retry_forever(lambda: find_clusters(self._store))
            others = [folder for folder in folders if folder != cluster_id]
        check_layout(traces, others)
        loader = LogLoader(
            store=self._store,
            cluster_id=cluster_id,
            entropy=self._entropy,
            patience=self._patience,
            tasks=self._tasks,
        )
        loaded = await loader.read()
        while True:
            check_tail(traces, loaded)
            unknown = await check_objects(self._store, traces, loaded, self._patience)
            if unknown is None:
                return loaded, max(traces.epoch, loaded.newest_epoch)
            # A cluster may be at work meanwhile: then its log has gone on.
            before, loaded = loaded, await loader.read()
            if loaded.image.record_number == before.image.record_number:
                raise unknown_object(traces, loaded, unknown)

    async def _read(self) -> ClusterKey | None:
        return await self._patience.retry_forever(lambda: read_cluster_key(self._store))

    async def _check_empty(self, cluster_id: str | None, adopt: str | None) -> ClusterKey | None:
        """Rule: what is not empty and not ours is left alone; what should be there is never made anew in silence.

        The cluster that another process made of the prefix meanwhile; None when it is empty.
        """
        foreign = await self._patience.retry_forever(lambda: first_foreign_key(self._store))
        if foreign is not None:
            # But for the claim of epoch 0 the key `cluster` comes first of all: where what was listed is a new
            # cluster's, the key is there by now.
            made_meanwhile = await self._read()
            if made_meanwhile is not None:
                return made_meanwhile
            clusters = await self._patience.retry_forever(lambda: find_clusters(self._store))
            if clusters:
                raise missing_cluster_key(clusters)
            raise StoreUnsuitable(
                f"the prefix has no key `{CLUSTER_KEY}` but holds other data, such as {foreign!r}: name an empty prefix"
            )
        for setting, named in (("automq.cluster.id", cluster_id), ("automq.storage.adopt", adopt)):
            if named is not None:
                raise StoreClusterMissing(
                    f"{setting} names cluster {named}, but the prefix is empty: correct automq.storage.uri, or remove "
                    f"{setting} to make a new cluster"
                )
        return None

    async def _format(self) -> ClusterKey:
        report = await self._patience.retry_forever(self._examine)
        if not report.is_usable:
            failed = "; ".join(
                f"{check.name}: {check.detail}"
                for check in report.checks
                if check.required and check.outcome == "failed"
            )
            raise StoreUnsuitable(f"the store fails what safety rests on ({failed}): use another store")
        cluster_id = new_cluster_id(self._entropy)
        await claim_for_format(store=self._store, cluster_id=cluster_id, entropy=self._entropy, patience=self._patience)
        key = ClusterKey(
            cluster_id=cluster_id,
            format_version=FORMAT_VERSION,
            verdict=json.loads(report.to_json()),
        )
        try:
            await create_once(
                self._store,
                CLUSTER_KEY,
                [key.encode()],
                decode=decode_cluster_key,
                entropy=self._entropy,
                on_trouble=self._patience.on_store,
            )
        except KeyTaken:
            await self._patience.retry_forever(lambda: self._store.delete([claim_key(cluster_id, NO_EPOCH)]))
            found = await self._read()
            if found is None:
                raise StoreUnsuitable("the prefix was formatted and erased by others meanwhile: start again") from None
            return found
        return key

    async def _check_not_erasing(self, cluster_id: ClusterId) -> None:
        try:
            await self._patience.retry_forever(lambda: self._store.get(erasing_key(cluster_id)))
        except ObjectNotFound:
            return
        raise StoreUnsuitable(
            f"cluster {cluster_id} was being erased: finish with `automq erase --cluster-id {cluster_id}`"
        )

    async def _check_lease_silent(self, cluster_id: ClusterId, recorded: str | None, span_s: float) -> None:
        """Rule: never adopted while the recorded owner's lease is renewed. Watched by our own clock."""
        watch = LeaseWatch(store=self._store, cluster_id=cluster_id, clock=self._clock)
        while watch.unchanged_s < span_s:
            await self._patience.retry_forever(watch.poll)
            if watch.changes:
                raise StoreOwnedByAnother(
                    f"cluster {cluster_id} belongs to {recorded}, which runs it: its lease is renewed; stop it first"
                )
            await asyncio.sleep(LOOK_INTERVAL_S)


def missing_cluster_key(clusters: Sequence[ClusterId]) -> StoreDamaged:
    """The prefix holds clusters' folders, and nothing says which of them counts."""
    named = json.dumps({"clusterId": clusters[0], "formatVersion": FORMAT_VERSION})
    return StoreDamaged(
        f"the key `{CLUSTER_KEY}` is missing, while the prefix holds the folder of cluster {', '.join(clusters)}: put "
        f"the key back from a backup, or write it again as {named}; nothing was touched",
        key=CLUSTER_KEY,
    )


def check_named(
    found: ClusterId, named: str | None, *, by: str = "automq.cluster.id", where: str = "automq.storage.uri"
) -> None:
    """Rule: a process that knows its cluster id refuses another's prefix. Raises StoreClusterMissing.

    `by` and `where` are what a person used to name the cluster and the prefix.
    """
    if named is not None and named != found:
        raise StoreClusterMissing(
            f"{by} names cluster {named}, but the prefix holds cluster {found}: correct {where} or {by}"
        )


def may_run(*, recorded: str | None, owner: str | None) -> bool:
    """Rule: where an owner is recorded, only it may run the cluster. Where none is, whoever comes first is recorded."""
    return recorded is None or recorded == owner


def check_adoption(found: ClusterId, *, recorded: str | None, adopt: str | None) -> None:
    """Rule: only who names the cluster id may take it over. Raises StoreOwnedByAnother."""
    if adopt != found:
        raise StoreOwnedByAnother(
            f"cluster {found} belongs to {recorded}: correct automq.storage.uri or automq.cluster.owner, or set "
            f"automq.storage.adopt={found} to take it over from an owner that has stopped"
        )
