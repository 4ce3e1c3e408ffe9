"""Erases a cluster: its folder first, the key `cluster` last, nothing else, and only for its owner.

An owner need not know the id: a cluster may have been formatted, and be given up, before anybody heard of its id.
Whatever lies in the folder goes, what no program of ours has put there included. A cluster that somebody runs is not
erased: its lease is watched first.

An erase that did not end left a marker behind that repeats the owner: the metadata log may be gone by then. Nobody
opens a cluster that has the marker; another erase finishes it.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId
from automq.metadata.claim import highest_claim, read_claim
from automq.metadata.cluster import check_named, erasing_key, first_foreign_key, read_cluster_key
from automq.metadata.lease import LeaseWatch
from automq.metadata.loader import LogLoader
from automq.metadata.patience import Patience
from automq.metadata.refusal import ClusterRunning, StoreClusterMissing, StoreOwnedByAnother
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import CorruptData, DataMissing, StoreDamaged
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.layout import CLUSTER_KEY

DELETES_AT_ONCE: Final = 1000
# Longer than a lease that is renewed every five seconds stays the same, its PUT included.
WATCH_S: Final = 8.0
LOOK_INTERVAL_S: Final = 1.0
# The folder is empty when it was found so twice, this far apart: a PUT may have been on its way.
EMPTY_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """How an erase by owner ended."""

    cluster_id: ClusterId | None
    """What the prefix held; None when it was empty."""
    keys: int
    """How many keys were removed."""
    kept: str | None = None
    """Why nothing was removed, where it was not."""


async def erase_owned(
    *,
    store: ObjectStorage,
    owner: str,
    clock: Clock,
    entropy: Entropy,
    tasks: Tasks,
    patience: Patience,
    on_progress: Callable[[int], None],
) -> Erasure:
    """See to it that nothing that `owner` is recorded for is left under the prefix, whatever the cluster's id.

    An empty prefix and one of another owner, or of none, are left as they are: nothing of `owner` is there. Raises
    DataMissing where there are keys but no key `cluster`, so that nobody knows whose they are; ClusterRunning,
    FormatTooNew, CorruptData. Nothing was changed then.
    """
    found = await patience.retry_forever(lambda: read_cluster_key(store))
    if found is None:
        foreign = await patience.retry_forever(lambda: first_foreign_key(store))
        if foreign is not None:
            raise DataMissing(key=CLUSTER_KEY, what=f"nothing was erased: the key that says whose {foreign!r} is")
        return Erasure(cluster_id=None, keys=0, kept="the prefix is empty")
    cluster_id = found.cluster_id
    recorded = await _recorded_owner(store, cluster_id, entropy, tasks, patience)
    if recorded != owner:
        return Erasure(
            cluster_id=cluster_id,
            keys=0,
            kept=f"cluster {cluster_id} belongs to {recorded or 'nobody'}, not to {owner}",
        )
    return Erasure(cluster_id=cluster_id, keys=await _erase_all(store, cluster_id, owner, clock, patience, on_progress))


async def erase(
    *,
    store: ObjectStorage,
    cluster_id: ClusterId,
    owner: str | None,
    clock: Clock,
    entropy: Entropy,
    tasks: Tasks,
    patience: Patience,
    on_progress: Callable[[int], None],
) -> int:
    """Remove the cluster and return how many keys that were; `on_progress` is called with the count so far.

    Raises StoreClusterMissing, StoreOwnedByAnother, ClusterRunning, FormatTooNew, CorruptData; nothing was changed
    then.
    """
    found = await patience.retry_forever(lambda: read_cluster_key(store))
    if found is None:
        raise StoreClusterMissing(f"the prefix has no key `{CLUSTER_KEY}`: there is no cluster {cluster_id} to erase")
    check_named(found.cluster_id, cluster_id, by="--cluster-id", where="the store")
    if not await patience.retry_forever(lambda: store.list(f"{cluster_id}/", limit=1)):
        # An erase ended between its last two deletes: the key leads to nothing, and nobody owns nothing.
        await patience.retry_forever(lambda: store.delete([CLUSTER_KEY]))
        on_progress(1)
        return 1
    recorded = await _recorded_owner(store, cluster_id, entropy, tasks, patience)
    if recorded != owner:
        raise StoreOwnedByAnother(
            f"cluster {cluster_id} belongs to {recorded or 'nobody'}, not to {owner or 'nobody'}: "
            "name its owner to erase it"
        )
    return await _erase_all(store, cluster_id, recorded, clock, patience, on_progress)


async def _erase_all(
    store: ObjectStorage,
    cluster_id: ClusterId,
    recorded: str | None,
    clock: Clock,
    patience: Patience,
    on_progress: Callable[[int], None],
) -> int:
    await check_not_running(store, cluster_id, clock, patience, before="erase")
    marker = json.dumps({"owner": recorded}).encode()
    await patience.retry_forever(lambda: store.put(erasing_key(cluster_id), [marker]))
    erased = await _erase_folder(store, cluster_id, patience, on_progress)
    # The marker goes when the folder is empty, the key when nothing is left that it could lead to.
    for key in (erasing_key(cluster_id), CLUSTER_KEY):
        await patience.retry_forever(lambda key=key: store.delete([key]))  # type: ignore[misc]
        erased += 1
        on_progress(erased)
    return erased


async def check_not_running(
    store: ObjectStorage, cluster_id: ClusterId, clock: Clock, patience: Patience, *, before: str
) -> None:
    """Rule: never while the lease is renewed, whoever asks. Raises ClusterRunning."""
    watch = LeaseWatch(store=store, cluster_id=cluster_id, clock=clock)
    while watch.unchanged_s < WATCH_S:
        await patience.retry_forever(watch.poll)
        if watch.changes:
            raise ClusterRunning(
                f"cluster {cluster_id} is running: its lease is renewed; stop its brokers, then {before} it"
            )
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _recorded_owner(
    store: ObjectStorage, cluster_id: ClusterId, entropy: Entropy, tasks: Tasks, patience: Patience
) -> str | None:
    key = erasing_key(cluster_id)
    try:
        return _marked_owner(key, await patience.retry_forever(lambda: store.get(key)))
    except ObjectNotFound:
        pass
    loader = LogLoader(store=store, cluster_id=cluster_id, entropy=entropy, patience=patience, tasks=tasks)
    damage: StoreDamaged | None = None
    try:
        image = (await loader.read()).image
        if image.record_number:
            return image.prefix_owner
    except StoreDamaged as error:
        damage = error
    # Whoever claimed last outlives the log: a cluster whose log is damaged or gone can be given up, too.
    claim = await read_claim(store, cluster_id, await highest_claim(store, cluster_id, patience), patience)
    if damage is not None and (claim is None or claim.record_number is None):
        raise damage
    return None if claim is None else claim.owner


def _marked_owner(key: str, marker: bytes) -> str | None:
    """Raises CorruptData for a marker that names nobody and does not say so."""
    try:
        owner = json.loads(marker)["owner"]
    except (ValueError, KeyError, TypeError):
        owner = 0
    if owner is not None and not isinstance(owner, str):
        raise CorruptData(key=key, offset=0, length=len(marker), what="marker of an erase that did not end")
    return owner


async def _erase_folder(
    store: ObjectStorage, cluster_id: ClusterId, patience: Patience, on_progress: Callable[[int], None]
) -> int:
    """Delete whatever is below the cluster's folder, but the marker, until two listings in a row show nothing."""
    erased = 0
    is_empty = False
    while True:
        keys = await patience.retry_forever(lambda: _some_keys(store, cluster_id))
        if not keys and is_empty:
            return erased
        is_empty = not keys
        if keys:
            await patience.retry_forever(lambda keys=keys: store.delete(keys))  # type: ignore[misc]
            erased += len(keys)
            on_progress(erased)
        else:
            await asyncio.sleep(EMPTY_PAUSE_S)


async def _some_keys(store: ObjectStorage, cluster_id: ClusterId) -> Sequence[str]:
    infos = await store.list(f"{cluster_id}/", limit=DELETES_AT_ONCE + 1)
    return [info.key for info in infos if info.key != erasing_key(cluster_id)][:DELETES_AT_ONCE]
