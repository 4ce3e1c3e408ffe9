"""Erases a cluster: its folder first, the key `cluster` last, nothing else, and only for its owner.

An owner need not know the id: a cluster may have been formatted, and be given up, before anybody heard of its id.

An erase that did not end left a marker behind that repeats the owner: the metadata log may be gone by then. Nobody
opens a cluster that has the marker; another erase finishes it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId
from automq.metadata.cluster import check_named, erasing_key, first_foreign_key, read_cluster_key
from automq.metadata.loader import LogLoader
from automq.metadata.patience import Patience
from automq.metadata.refusal import StoreClusterMissing, StoreOwnedByAnother
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import DataMissing
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.layout import CLUSTER_KEY

DELETES_AT_ONCE: Final = 1000


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
    entropy: Entropy,
    tasks: Tasks,
    patience: Patience,
    on_progress: Callable[[int], None],
) -> Erasure:
    """See to it that nothing that `owner` is recorded for is left under the prefix, whatever the cluster's id.

    An empty prefix and one of another owner, or of none, are left as they are: nothing of `owner` is there. Raises
    DataMissing where there are keys but no key `cluster`, so that nobody knows whose they are; FormatTooNew,
    CorruptData. Nothing was changed then.
    """
    found = await patience.insist(lambda: read_cluster_key(store))
    if found is None:
        foreign = await patience.insist(lambda: first_foreign_key(store))
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
    return Erasure(cluster_id=cluster_id, keys=await _erase_all(store, cluster_id, owner, patience, on_progress))


async def erase(
    *,
    store: ObjectStorage,
    cluster_id: ClusterId,
    owner: str | None,
    entropy: Entropy,
    tasks: Tasks,
    patience: Patience,
    on_progress: Callable[[int], None],
) -> int:
    """Remove the cluster and return how many keys that were; `on_progress` is told the count so far.

    Raises StoreClusterMissing, StoreOwnedByAnother, FormatTooNew, CorruptData; nothing was changed then.
    """
    found = await patience.insist(lambda: read_cluster_key(store))
    if found is None:
        raise StoreClusterMissing(f"the prefix has no key `{CLUSTER_KEY}`: there is no cluster {cluster_id} to erase")
    check_named(found.cluster_id, cluster_id)
    recorded = await _recorded_owner(store, cluster_id, entropy, tasks, patience)
    if recorded != owner:
        raise StoreOwnedByAnother(
            f"cluster {cluster_id} belongs to {recorded or 'nobody'}, not to {owner or 'nobody'}: "
            "name its owner to erase it"
        )
    return await _erase_all(store, cluster_id, recorded, patience, on_progress)


async def _erase_all(
    store: ObjectStorage,
    cluster_id: ClusterId,
    recorded: str | None,
    patience: Patience,
    on_progress: Callable[[int], None],
) -> int:
    marker = json.dumps({"owner": recorded}).encode()
    await patience.insist(lambda: store.put(erasing_key(cluster_id), [marker]))
    erased = await _erase_folder(store, cluster_id, patience, on_progress)
    # The marker goes when the folder is empty, the key when nothing is left that it could lead to.
    for key in (erasing_key(cluster_id), CLUSTER_KEY):
        await patience.insist(lambda key=key: store.delete([key]))  # type: ignore[misc]
        erased += 1
        on_progress(erased)
    return erased


async def _recorded_owner(
    store: ObjectStorage, cluster_id: ClusterId, entropy: Entropy, tasks: Tasks, patience: Patience
) -> str | None:
    try:
        marker = json.loads(await patience.insist(lambda: store.get(erasing_key(cluster_id))))
    except ObjectNotFound:
        loader = LogLoader(store=store, cluster_id=cluster_id, entropy=entropy, patience=patience, tasks=tasks)
        return (await loader.read()).image.prefix_owner
    owner = marker["owner"]
    assert owner is None or isinstance(owner, str)
    return owner


async def _erase_folder(
    store: ObjectStorage, cluster_id: ClusterId, patience: Patience, on_progress: Callable[[int], None]
) -> int:
    erased = 0
    while True:
        infos = await patience.insist(lambda: store.list(f"{cluster_id}/", limit=DELETES_AT_ONCE + 1))
        keys = [info.key for info in infos if info.key != erasing_key(cluster_id)][:DELETES_AT_ONCE]
        if not keys:
            return erased
        await patience.insist(lambda keys=keys: store.delete(keys))  # type: ignore[misc]
        erased += len(keys)
        on_progress(erased)
