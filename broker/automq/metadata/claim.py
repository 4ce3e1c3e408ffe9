"""Claims to the metadata log: one key an epoch, created if absent, never deleted.

Invariant: claims are dense from epoch 1 on, because a claimant asks for the epoch above the highest it sees.
"""

import json

from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.log_format import claim_folder, claim_key, epoch_of
from automq.metadata.patience import Patience
from automq.runtime.entropy import Entropy
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once


async def highest_claim(store: ObjectStorage, cluster_id: ClusterId, patience: Patience) -> ControllerEpoch:
    """The newest epoch that somebody claimed; 0 when nobody ever did."""
    claims = await patience.insist(lambda: store.list(claim_folder(cluster_id)))
    return max((epoch_of(claim.key) for claim in claims), default=ControllerEpoch(0))


async def claim_next_epoch(
    *, store: ObjectStorage, cluster_id: ClusterId, node: NodeId, entropy: Entropy, patience: Patience
) -> ControllerEpoch:
    """Take the lowest epoch that nobody claimed. It is ours alone from then on."""
    while True:
        epoch = ControllerEpoch(await highest_claim(store, cluster_id, patience) + 1)
        body = json.dumps({"node": node, "nonce": entropy.token(16).hex()}).encode()
        try:
            await create_once(
                store, claim_key(cluster_id, epoch), [body], entropy=entropy, on_trouble=patience.on_store
            )
        except KeyTaken:
            continue
        return epoch
