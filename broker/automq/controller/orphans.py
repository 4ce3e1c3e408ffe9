"""What lies in the bucket and nothing refers to: late PUTs into logs that are recovered, late objects, half uploads.

A key is an orphan only when the durable image knows that nobody can want it: an object whose id was prepared once and
is in no state now, a data slot of an incarnation whose log is recovered and of which nothing is pinned. Besides it must
be older, by the store's own clock, than anything that is still on its way. What the image does not know is no orphan
but a sign that the image is behind: then nothing more is deleted, and it is told. So is what the image has and the
bucket has not.

    key                                   the image                                 verdict
    object                                prepared, committed or destroyed          KNOWN
                                          id at or above its next one               AHEAD
                                          else                                      ORPHAN
    slot of (node, epoch)                 a log to be recovered, or pinned slots    KNOWN
                                          epoch at or above its next one            AHEAD
                                          else                                      ORPHAN
"""

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prometheus_client import Counter

from automq.ids import ClusterId, ObjectId
from automq.metadata.image import MetadataImage
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import DataMissing, StoreDamaged
from automq.s3stream.objects.format import object_folder, object_key, parse_object_key
from automq.s3stream.ports import ObjectInfo, ObjectNotFound, ObjectStorage, StoreError
from automq.s3stream.store.listing import list_own
from automq.s3stream.wal.format import SLOT_HEADER_BYTES, SlotId, is_data, parse_slot_key

log = logging.getLogger(__name__)

ORPHAN_KINDS: Final = ("wal slot", "object", "upload")
"""What may be swept, as the metric names it."""


def orphans_counter(metrics: Metrics) -> Counter:
    """Counts what is swept; every kind is there from the start."""
    counter = metrics.counter("automq_orphans_deleted", "What nothing referred to and was swept, by kind", ["kind"])
    for kind in ORPHAN_KINDS:
        counter.labels(kind)
    return counter


PAGE_KEYS: Final = 1000
# Between pages: whoever serves has the store and the loop to itself.
PAGE_PAUSE_S: Final = 1.0
# Data slots are padded to pages; what is smaller is a fence, or something that nobody may delete unread.
DATA_SLOT_BYTES_MIN: Final = 4096
# Of objects that a listing did not show, so many are asked for one by one in a round.
CONFIRMED_MAX: Final = 100
OBJECTS_A_TURN: Final = 1000


class Verdict(enum.Enum):
    """What the image says of a key."""

    KNOWN = "known"
    ORPHAN = "orphan"
    AHEAD = "ahead"
    """Of a record that the image has not: its log is behind."""


def judge_object(image: MetadataImage, object_id: ObjectId) -> Verdict:
    """Rule: only what was prepared once and is in no state any more was destroyed, and its bytes deleted."""
    if object_id >= image.next_object:
        return Verdict.AHEAD
    if object_id in image.prepared or object_id in image.committed or object_id in image.destroyed:
        return Verdict.KNOWN
    return Verdict.ORPHAN


def judge_slot(image: MetadataImage, slot: SlotId) -> Verdict:
    """Rule: only the log of an incarnation that is recovered whole has slots that nobody reads."""
    if slot.epoch >= image.next_broker_epoch:
        return Verdict.AHEAD
    log_of = (slot.node, slot.epoch)
    return Verdict.KNOWN if log_of in image.wals else Verdict.ORPHAN


def is_old(modified_ms: int | None, now_ms: int | None, expiry_ms: int) -> bool:
    """Rule: by the store's own clock; a store that does not tell the time has nothing old."""
    return modified_ms is not None and now_ms is not None and modified_ms + expiry_ms < now_ms


@dataclass(slots=True)
class Swept:
    """One round's outcome."""

    objects: int = 0
    slots: int = 0
    uploads: int = 0
    damage: list[StoreDamaged] = field(default_factory=list)
    """What the round has found, and gone on with or stopped at."""


class Orphans:
    """Sweeps for one claim.

    `image` is the newest durable image; `prove_active` returns once that was proved, and raises LogFenced when it was
    not. `deleted` counts, labelled by kind.
    """

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        image: Callable[[], MetadataImage],
        prove_active: Callable[[], Awaitable[None]],
        expiry_ms: int,
        deleted: Counter,
    ) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._image = image
        self._prove_active = prove_active
        self._expiry_ms = expiry_ms
        self._deleted = deleted

    async def sweep(self) -> Swept:
        """One round. Raises StoreError, LogFenced; what was deleted until then is gone."""
        swept = Swept()
        if await self._sweep_slots(swept) and await self._sweep_objects(swept):
            await self._abort_uploads(swept)
        if swept.objects or swept.slots or swept.uploads:
            log.info(
                "swept what nothing refers to",
                extra={"objects": swept.objects, "wal_slots": swept.slots, "uploads": swept.uploads},
            )
        return swept

    async def _sweep_slots(self, swept: Swept) -> bool:
        """Whether the image knows of every incarnation that a slot is of."""
        start_after, folder = "", f"{self._cluster_id}/wal/"
        while True:
            now_ms = await self._store.time_ms()
            page = await list_own(self._store, folder, parse_slot_key, start_after=start_after, limit=PAGE_KEYS)
            # After the listing: what is of a later record was not there yet.
            image = self._image()
            orphans: list[str] = []
            for listed in page:
                verdict = judge_slot(image, listed.parsed)
                if verdict is Verdict.AHEAD:
                    return await self._stop_at(listed.info.key, swept, partial(judge_slot, slot=listed.parsed))
                if verdict is Verdict.ORPHAN and await self._is_old_data(listed.info, now_ms):
                    orphans.append(listed.info.key)
            await self._delete(orphans, "wal slot")
            swept.slots += len(orphans)
            if len(page) < PAGE_KEYS:
                return True
            start_after = page[-1].info.key
            await asyncio.sleep(PAGE_PAUSE_S)

    async def _is_old_data(self, info: ObjectInfo, now_ms: int | None) -> bool:
        """Rule: fences stay, and so does whatever cannot be told from one."""
        if info.size < DATA_SLOT_BYTES_MIN or not is_old(info.modified_ms, now_ms, self._expiry_ms):
            return False
        try:
            return is_data(await self._store.get_range(info.key, 0, SLOT_HEADER_BYTES))
        except ObjectNotFound:
            return False

    async def _sweep_objects(self, swept: Swept) -> bool:
        """Whether the image knows of every object's id."""
        before = self._image()
        seen = bytearray(before.next_object // 8 + 1)
        start_after = ""
        while True:
            now_ms = await self._store.time_ms()
            page = await list_own(
                self._store, object_folder(self._cluster_id), parse_object_key, start_after=start_after, limit=PAGE_KEYS
            )
            image = self._image()
            orphans: list[str] = []
            for listed in page:
                object_id = listed.parsed
                if object_id < before.next_object:
                    seen[object_id // 8] |= 1 << object_id % 8
                verdict = judge_object(image, object_id)
                if verdict is Verdict.AHEAD:
                    return await self._stop_at(listed.info.key, swept, partial(judge_object, object_id=object_id))
                if verdict is Verdict.ORPHAN and is_old(listed.info.modified_ms, now_ms, self._expiry_ms):
                    orphans.append(listed.info.key)
            await self._delete(orphans, "object")
            swept.objects += len(orphans)
            if len(page) < PAGE_KEYS:
                break
            start_after = page[-1].info.key
            await asyncio.sleep(PAGE_PAUSE_S)
        swept.damage += [
            DataMissing(key=key, what="an object that holds committed records")
            for key in await self._missing(before, seen)
        ]
        return True

    async def _missing(self, before: MetadataImage, seen: bytearray) -> list[str]:
        """Objects that were committed all the time, and that neither the listing nor a read shows."""
        unseen: list[ObjectId] = []
        for number, object_id in enumerate(before.committed):
            if not seen[object_id // 8] >> object_id % 8 & 1:
                unseen.append(object_id)
            if number % OBJECTS_A_TURN == OBJECTS_A_TURN - 1:
                await asyncio.sleep(0)
        missing: list[ObjectId] = []
        for object_id in sorted(unseen)[:CONFIRMED_MAX]:
            key = object_key(self._cluster_id, object_id)
            try:
                await self._store.get_range(key, 0, 1)
            except ObjectNotFound:
                missing.append(object_id)
        if missing:
            # Who was superseded without knowing must not take for damage what the other has deleted.
            await self._prove_active()
        committed = self._image().committed
        return [object_key(self._cluster_id, object_id) for object_id in missing if object_id in committed]

    async def _abort_uploads(self, swept: Swept) -> None:
        """Advisory: a store that refuses to list them keeps them."""
        now_ms = await self._store.time_ms()
        try:
            uploads = await self._store.list_uploads(f"{self._cluster_id}/")
            old = [upload for upload in uploads if is_old(upload.started_ms, now_ms, self._expiry_ms)]
            if old:
                await self._store.abort_uploads(old)
        except StoreError as error:
            log.info("half uploads are not swept", extra={"why": str(error)})
            return
        swept.uploads = len(old)
        self._deleted.labels("upload").inc(len(old))

    async def _delete(self, keys: Sequence[str], kind: str) -> None:
        if keys:
            await self._store.delete(keys)
            self._deleted.labels(kind).inc(len(keys))

    async def _stop_at(self, key: str, swept: Swept, judge_again: Callable[[MetadataImage], Verdict]) -> bool:
        """Rule: what a later record made is no orphan. It is damage, unless another controller is at work by now."""
        await self._prove_active()
        if judge_again(self._image()) is Verdict.AHEAD:
            swept.damage.append(
                StoreDamaged(
                    f"{key} is of a record that the metadata log does not hold: the log has lost its end, and nothing "
                    "is swept any more",
                    key=key,
                )
            )
        return False
