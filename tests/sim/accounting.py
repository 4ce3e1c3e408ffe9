"""What lies in the bucket at the end of a run, and why: every key is explained by the image or by a rule.

    data/...            prepared, committed, or destroyed and in its grace period; or a PUT that landed after its time
    wal/.../<sequence>  at or above T of a log that may still hold something; a fence; pinned; a PUT out of its time; of
                        a log whose recoverer is gone by now
    meta/, cluster      by what they are
    anything else       a stranger's

An object that nothing refers to is destroyed, and gone after its grace period: so data of trimmed ranges go away.
"""

from automq.ids import BrokerEpoch, NodeId, ObjectId
from automq.metadata.image import MetadataImage
from automq.s3stream.store.layout import KeyKind, parse_key
from tests.support.cluster import Cluster, is_fence

# Two rounds of the sweep, and the requests that they make.
SWEEP_ROUNDS = 2
REQUESTS_S = 3.0
# No upload of a seed takes so long.
LONG_MS = 600_000


def check_accounts(cluster: Cluster, image: MetadataImage) -> None:
    """Add a violation for each key that nothing explains."""
    if cluster.store.answers_404_to_deletes:
        # A port that breaks its contract is survived, no more: a delete that is repeated never succeeds.
        return
    for key in cluster.bucket.find():
        parsed = parse_key(key)
        why_not: str | None = None
        if parsed is None:
            why_not = None if key in cluster.strangers else "it is no key of ours"
        elif parsed.kind is KeyKind.ERASING:
            why_not = "nobody erases"
        elif parsed.kind is KeyKind.OBJECT:
            why_not = _object(cluster, image, ObjectId(parsed.numbers[0]))
        elif parsed.kind is KeyKind.WAL_SLOT:
            node, epoch, sequence = parsed.numbers
            why_not = _slot(cluster, image, key, NodeId(node), BrokerEpoch(epoch), sequence)
        if why_not is not None and not cluster.landed_late(key):
            cluster.violation(f"{key} lies in the bucket: {why_not}")
    for object_id in image.unreferenced:
        cluster.violation(f"nothing refers to object {object_id}, and it is not destroyed")


def _object(cluster: Cluster, image: MetadataImage, object_id: ObjectId) -> str | None:
    if object_id in image.committed or object_id in image.prepared:
        return None
    destroyed = image.destroyed.get(object_id)
    controller = cluster.tuning["controller"]
    if destroyed is None:
        # An upload that is tried again for longer than an object's expiry puts it after it was deleted.
        return None if controller["object_expiry_ms"] < LONG_MS else "no object has that id any more"
    patience_ms = controller["object_grace_ms"] + 1000 * (SWEEP_ROUNDS * controller["sweep_interval_s"] + REQUESTS_S)
    now_ms = cluster.serving[0].clock.wall_ms()
    if destroyed.destroyed_ms + patience_ms < now_ms and cluster.clock_jumped_at is None:
        return f"destroyed {(now_ms - destroyed.destroyed_ms) / 1000:.1f} s ago"
    return None


def _slot(
    cluster: Cluster, image: MetadataImage, key: str, node: NodeId, epoch: BrokerEpoch, sequence: int
) -> str | None:
    if is_fence(key, cluster.bucket.body(key)):
        return None
    wal = image.wals.get((node, epoch))
    if wal is not None:
        return None if sequence >= wal.trim_to or wal.damage is not None else f"T is {wal.trim_to}"
    if any(held.first_slot <= sequence < held.end_slot for held in image.pinned.get((node, epoch), ())):
        return None
    newest = image.broker(node)
    if newest is not None and newest.epoch > epoch + 1:
        # Whoever recovered it may have died before it swept; the controller's sweep of orphans takes an hour.
        return None
    return "that log is recovered"
