"""Looks at everything a cluster has in its store, and only looks: `automq fsck`.

Whatever is damaged is named with what it means and what to do; nothing ends the examination but a store that does not
answer. Without `deep` objects are compared with the metadata by name and size; with it every byte of them is read and
checked.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.metadata.cluster import read_cluster_key
from automq.metadata.evidence import check_layout, check_tail, find_clusters, find_traces
from automq.metadata.image import MetadataImage
from automq.metadata.loader import LogLoader
from automq.metadata.log_format import parse_snapshot_key, snapshot_folder
from automq.metadata.packed_ranges import StreamRange
from automq.metadata.patience import Patience
from automq.metadata.snapshot_format import check_snapshot
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.turns import in_turns
from automq.s3stream.cache.block_cache import is_small_share
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.objects.format import object_folder, object_key, parse_object_key
from automq.s3stream.objects.proof import DamagedPart, ObjectDamage, Share, find_damage
from automq.s3stream.ports import ObjectInfo, ObjectNotFound, ObjectStorage
from automq.s3stream.store.layout import CLUSTER_KEY, parse_key
from automq.s3stream.store.listing import list_own
from automq.server.tools.findings import Finding, Report, Severity, affected
from automq.server.tools.log_examination import examine_logs

PAGE_KEYS: Final = 1000
# Partitions and objects that are named one by one; the rest is counted.
NAMED_MAX: Final = 100

_RESTORE: Final = "put the key back from a backup or an older version of the bucket"
_NONE: Final = "none is needed; put the object back from a backup or an older version of the bucket if there is one"
_GIVE_UP: Final = (
    "put the object back from a backup or an older version of the bucket, or give its offsets up: "
    "`automq repair STORE --lose TOPIC-PARTITION:START-END`"
)


class Examination:
    """One run. Raises StoreError where the store does not answer."""

    def __init__(
        self, *, store: ObjectStorage, name: str, entropy: Entropy, tasks: Tasks, patience: Patience, deep: bool
    ) -> None:
        self._store = store
        self._entropy = entropy
        self._tasks = tasks
        self._patience = patience
        self._report = Report(store=name, is_deep=deep)
        self._deep = deep

    async def run(self) -> Report:
        """Everything, in the order in which a start meets it."""
        report = self._report
        await self._count_keys()
        cluster_id = await self._cluster()
        if cluster_id is None:
            return report
        report.cluster_id = cluster_id
        await self._examine_snapshots(cluster_id)
        image = await self._load(cluster_id)
        if image is None:
            return report
        report.add(recorded_damage(image))
        await self._examine_objects(cluster_id, image)
        report.add(await examine_logs(self._store, cluster_id, image, deep=self._deep))
        return report

    async def _count_keys(self) -> None:
        kinds: Counter[str] = Counter()
        strangers: list[str] = []
        start_after = ""
        while True:
            infos = await self._store.list("", start_after=start_after, limit=PAGE_KEYS)
            for info in infos:
                parsed = parse_key(info.key)
                self._report.bytes += info.size
                if parsed is None:
                    strangers.append(info.key)
                    kinds["stranger"] += 1
                else:
                    kinds[parsed.kind.value] += 1
            if len(infos) < PAGE_KEYS:
                break
            start_after = infos[-1].key
        self._report.keys = dict(sorted(kinds.items()))
        self._report.add(
            Finding(
                severity=Severity.NOTE,
                key=repr(key),
                what="a key that is none of this program's; it is passed over",
                remedy="remove it if nobody needs it",
            )
            for key in strangers[:NAMED_MAX]
        )

    async def _cluster(self) -> ClusterId | None:
        try:
            found = await read_cluster_key(self._store)
        except (StoreDamaged, FormatTooNew) as error:
            self._report.add([Finding(severity=Severity.DAMAGE, key=CLUSTER_KEY, what=str(error), remedy=_RESTORE)])
            return None
        if found is None:
            severity = Severity.DAMAGE if sum(self._report.keys.values()) else Severity.NOTE
            what = "the key that says which cluster the prefix holds is missing" if self._report.keys else "it is empty"
            self._report.add([Finding(severity=severity, key=CLUSTER_KEY, what=what, remedy=_RESTORE)])
            return None
        return found.cluster_id

    async def _examine_snapshots(self, cluster_id: ClusterId) -> None:
        for listed in await list_own(self._store, snapshot_folder(cluster_id), parse_snapshot_key):
            key = listed.info.key
            try:
                data = await self._store.get(key)
                checked = await in_turns(check_snapshot(cluster_id, listed.parsed, data))
                for _records in checked.blocks():
                    await asyncio.sleep(0)
            except ObjectNotFound:
                continue
            except (StoreDamaged, FormatTooNew) as error:
                self._report.add(
                    [
                        Finding(
                            severity=Severity.WARNING,
                            key=key,
                            what=f"{error}; a start reads the one before it and the log from there",
                            remedy="none is needed: the next snapshot replaces it",
                        )
                    ]
                )

    async def _load(self, cluster_id: ClusterId) -> MetadataImage | None:
        """The metadata, compared with what followed from them; None when they cannot be read."""
        loader = LogLoader(
            store=self._store,
            cluster_id=cluster_id,
            entropy=self._entropy,
            patience=self._patience,
            tasks=self._tasks,
        )
        try:
            traces = await find_traces(self._store, cluster_id, self._patience)
            others = [found for found in await find_clusters(self._store) if found != cluster_id]
            check_layout(traces, others)
            loaded = await loader.read()
            check_tail(traces, loaded)
            return loaded.image
        except (StoreDamaged, FormatTooNew) as error:
            self._report.add([Finding(severity=Severity.DAMAGE, key=error.key, what=str(error), remedy=_RESTORE)])
            return None

    async def _examine_objects(self, cluster_id: ClusterId, image: MetadataImage) -> None:
        listing = await list_own(self._store, object_folder(cluster_id), parse_object_key)
        present = {listed.parsed: listed.info for listed in listing}
        missing = [object_id for object_id in sorted(image.committed) if object_id not in present]
        for object_id in missing:
            # A cluster may be at work: the object may have been destroyed since the log was read.
            if await self._is_gone(object_key(cluster_id, object_id)):
                self._report.add([missing_object(cluster_id, image, object_id)])
        for object_id, info in sorted(present.items()):
            committed = image.committed.get(object_id)
            if committed is None:
                self._report.add(unknown_object(image, object_id, info))
            elif committed.size != info.size:
                what = f"the object has {info.size} bytes, the metadata say {committed.size}"
                self._report.add([_object_damage(image, info.key, what, image.ranges_of(object_id))])
            elif self._deep:
                await self._read_object(cluster_id, image, object_id, info)

    async def _is_gone(self, key: str) -> bool:
        try:
            await self._store.get_range(key, 0, 1)
        except ObjectNotFound:
            return True
        return False

    async def _read_object(
        self, cluster_id: ClusterId, image: MetadataImage, object_id: ObjectId, info: ObjectInfo
    ) -> None:
        """Every block of one object."""
        try:
            data = memoryview(await self._store.get(info.key))
        except ObjectNotFound:
            return
        held = image.ranges_of(object_id)
        shares = [_share(image, object_id, part) for part in held]
        try:
            damages = find_damage(cluster_id, object_id, data, shares)
        except FormatTooNew as error:
            self._report.add([_object_damage(image, info.key, str(error), held)])
            return
        self._report.add(_finding(image, info.key, damage) for damage in damages)


def recorded_damage(image: MetadataImage) -> list[Finding]:
    """What brokers and people have recorded already."""
    findings: list[Finding] = []
    for stream, causes in sorted(image.quarantines.items()):
        state = image.stream(stream)
        parts = () if state is None else (affected(image, stream, state.next_offset, None),)
        findings.extend(
            Finding(
                severity=Severity.DAMAGE,
                key=cause.key,
                what=f"the partition takes no appends: {cause.reason}",
                remedy=f"mend what is at the key, then `automq repair STORE --lift {cause.key}`",
                affected=parts,
            )
            for cause in causes
        )
    for stream, losses in sorted(image.lost_ranges.items()):
        findings.extend(
            Finding(
                severity=Severity.NOTE,
                key=lost.key,
                what=f"given up by {lost.by}: {lost.reason}; readers pass over it",
                affected=(affected(image, stream, lost.start, lost.end),),
            )
            for lost in losses
        )
    return findings


def missing_object(cluster_id: ClusterId, image: MetadataImage, object_id: ObjectId) -> Finding:
    """An object that the metadata have and the store has not."""
    return _object_damage(image, object_key(cluster_id, object_id), "the object is missing", image.ranges_of(object_id))


def unknown_object(image: MetadataImage, object_id: ObjectId, info: ObjectInfo) -> list[Finding]:
    """An object that is not committed: on its way, on its way out, or left over; or the metadata are behind."""
    if object_id in image.destroyed or object_id in image.prepared:
        return []
    if object_id >= image.next_object:
        return [
            Finding(
                severity=Severity.DAMAGE,
                key=info.key,
                what=f"the metadata have given out ids below {image.next_object} only: its newest slots are missing",
                remedy="put the newest slots of the metadata log back from a backup or an older version of the bucket",
            )
        ]
    return [
        Finding(
            severity=Severity.NOTE,
            key=info.key,
            what="nothing refers to the object: it is left over",
            remedy="none is needed: the controller removes it when it is old enough",
        )
    ]


def _object_damage(image: MetadataImage, key: str, what: str, held: Sequence[StreamRange]) -> Finding:
    left = [part for part in held if not is_given_up(image, part.stream, part.start, part.end)]
    parts = [affected(image, part.stream, part.start, part.end) for part in left or held]
    return Finding(
        severity=Severity.DAMAGE if left or not held else Severity.NOTE,
        key=key,
        what=what if left or not held else f"{what}; all that lay in it was given up",
        remedy=_GIVE_UP if left or not held else "",
        affected=tuple(parts[:NAMED_MAX]),
    )


def is_given_up(image: MetadataImage, stream: StreamId, start: Offset, end: Offset) -> bool:
    """Whether a person gave up all of [start, end), or it was trimmed."""
    state = image.stream(stream)
    position = start if state is None else max(start, state.start)
    for lost in image.lost_ranges.get(stream, ()):
        if lost.start <= position < lost.end:
            position = lost.end
    return state is None or position >= end


def _share(image: MetadataImage, object_id: ObjectId, held: StreamRange) -> Share:
    (span,) = image.spans(held.stream, held.start, held.end, limit=1)
    return Share(
        stream=held.stream,
        start=held.start,
        end=held.end,
        position=held.position,
        size=held.size,
        needs_index=not is_small_share(span),
    )


def _finding(image: MetadataImage, key: str, damage: ObjectDamage) -> Finding:
    what = str(damage.error)
    match damage.part:
        case DamagedPart.HEADER:
            return Finding(severity=Severity.WARNING, key=key, what=f"{what}; no reader needs it", remedy=_NONE)
        case DamagedPart.CHECKPOINT:
            return Finding(
                severity=Severity.WARNING,
                key=key,
                what=f"{what}; an earlier checkpoint and the records after it are used",
                remedy="none is needed: the next upload writes a new one",
                affected=tuple(affected(image, *hidden) for hidden in damage.hidden),
            )
        case DamagedPart.INDEX if not damage.hidden:
            return Finding(
                severity=Severity.WARNING,
                key=key,
                what=f"{what}; no record is hidden, as the metadata know where all that it describes lies; "
                "checkpoints that it describes are passed over, and the object is not compacted",
                remedy=_NONE,
            )
        case DamagedPart.INDEX:
            what = f"{what}; blocks that only it describes are not found"
        case DamagedPart.DATA:
            pass
    left = [hidden for hidden in damage.hidden if not is_given_up(image, *hidden)]
    parts = tuple(affected(image, *hidden) for hidden in (left or damage.hidden)[:NAMED_MAX])
    if not left:
        return Finding(severity=Severity.NOTE, key=key, what=f"{what}; it was given up", affected=parts)
    return Finding(severity=Severity.DAMAGE, key=key, what=what, remedy=_GIVE_UP, affected=parts)
