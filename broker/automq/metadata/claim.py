"""Claims to the metadata log: one key an epoch, created if absent, never deleted.

A claimant asks for the epoch above the highest that it sees, and goes on above one that it finds taken. A claim that
is taken and that no listing shows is no race: such a store hides keys that exist, and nothing may rest on it.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, Final

from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.log_format import claim_folder, claim_key, parse_claim_key
from automq.metadata.patience import Patience
from automq.metadata.refusal import StoreUnsuitable
from automq.metadata.sealed import seal, unseal
from automq.replicated.machine import LogFenced
from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.s3stream.model import CorruptData
from automq.s3stream.ports import ObjectExists, ObjectNotFound, ObjectStorage
from automq.s3stream.store.conditional import KeyTaken, create_once
from automq.s3stream.store.listing import list_own

log = logging.getLogger(__name__)

# With the pauses between them some ten seconds: longer than any listing that is only late.
OMISSIONS_MAX: Final = 6
NO_EPOCH: Final = ControllerEpoch(0)
VERSION: Final = 2
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ClaimantAddress:
    """The internal listener of whoever claimed."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim's key says."""

    node: NodeId | None
    """None for the claim that a cluster is formatted with."""
    nonce: str
    owner: str | None = None
    """Whom the claimant ran the cluster for."""
    record_number: int | None = None
    """How many records the metadata log had when the claimant read it; None where no checksum vouches for that."""
    where: ClaimantAddress | None = None
    """Where other brokers reach the claimant; None for one that takes no connections of brokers."""


async def highest_claim(store: ObjectStorage, cluster_id: ClusterId, patience: Patience) -> ControllerEpoch:
    """The newest epoch that somebody claimed; 0 when nobody ever did."""
    claims = await patience.retry_forever(lambda: list_own(store, claim_folder(cluster_id), parse_claim_key))
    return max((claim.parsed for claim in claims), default=NO_EPOCH)


async def read_claim(
    store: ObjectStorage, cluster_id: ClusterId, epoch: ControllerEpoch, patience: Patience
) -> Claim | None:
    """What the claim of `epoch` says; None where it cannot be read: that it exists is what counts."""
    key = claim_key(cluster_id, epoch)
    try:
        return decode_claim(key, await patience.retry_forever(lambda: store.get(key)))
    except (ObjectNotFound, CorruptData):
        return None


def decode_claim(key: str, data: bytes) -> Claim:
    """Who claimed, and in which try. Raises CorruptData."""
    try:
        fields, is_sealed = unseal(data)
        node, nonce = fields["node"], str(fields["nonce"])
        claim = Claim(None if node is None else NodeId(int(node)), nonce)
        if is_sealed:
            return replace(
                claim,
                owner=fields["owner"],
                record_number=int(fields["recordNumber"]),
                where=_decode_where(fields.get("internalListener")),
            )
        return claim
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(key=key, offset=0, length=len(data), what="claim") from error


def _decode_where(fields: Any) -> ClaimantAddress | None:
    return None if fields is None else ClaimantAddress(str(fields["host"]), int(fields["port"]))


def encode_claim(claim: Claim) -> bytes:
    """The inverse of `decode_claim`. Who reads only version 1, which has no listener, passes over what it has more."""
    fields: dict[str, Any] = {
        "version": VERSION,
        "node": claim.node,
        "nonce": claim.nonce,
        "owner": claim.owner,
        "recordNumber": claim.record_number or 0,
    }
    if claim.where is not None:
        fields["internalListener"] = {"host": claim.where.host, "port": claim.where.port}
    return seal(fields)


async def claim_for_format(
    *, store: ObjectStorage, cluster_id: ClusterId, entropy: Entropy, patience: Patience
) -> None:
    """The claim of epoch 0, which nobody holds. It is there before the key `cluster` is.

    A cluster without any claim is one whose folder was removed. `cluster_id` is new, so nobody else makes this claim.
    """
    key = claim_key(cluster_id, NO_EPOCH)
    body = encode_claim(Claim(None, entropy.token(16).hex()))
    await create_once(
        store,
        key,
        [body],
        decode=lambda data: decode_claim(key, data),
        entropy=entropy,
        on_trouble=patience.on_store,
    )


async def claim_next_epoch(
    *,
    store: ObjectStorage,
    cluster_id: ClusterId,
    node: NodeId,
    entropy: Entropy,
    patience: Patience,
    above: ControllerEpoch = NO_EPOCH,
    owner: str | None = None,
    record_number: int = 0,
    where: ClaimantAddress | None = None,
    is_contest: bool = False,
) -> ControllerEpoch:
    """Take an epoch above `above` and above every claim. It is ours alone from then on.

    `owner` is whom we run the cluster for, `record_number` how long the log was when we read it: both outlive the log.
    `where` is our internal listener. In a contest the first wins: LogFenced is raised where somebody was faster.

    Raises StoreUnsuitable when the store hides claims that exist, or lets a claim be created twice.
    """
    backoff = Backoff(entropy=entropy, first_s=FIRST_PAUSE_S, max_s=LONGEST_PAUSE_S)
    taken = above
    omissions = 0
    while True:
        listed = await highest_claim(store, cluster_id, patience)
        if is_contest and listed > above:
            # Rule: a claim above one that was not known would take it from whoever has just won it.
            raise LogFenced(f"controller epoch {listed} was claimed by another process first")
        if taken > above and listed < taken:
            omissions += 1
            log.warning(
                "a claim exists and no listing shows it", extra={"claim": claim_key(cluster_id, taken), "seen": listed}
            )
            if omissions == OMISSIONS_MAX:
                raise StoreUnsuitable(
                    f"{claim_key(cluster_id, taken)} exists and the store's listings do not show it "
                    f"({omissions} times over): use a store that lists what it holds"
                )
        epoch = ControllerEpoch(max(listed, taken) + 1)
        key = claim_key(cluster_id, epoch)
        body = encode_claim(Claim(node, entropy.token(16).hex(), owner, record_number, where))
        try:
            await create_once(
                store,
                key,
                [body],
                decode=lambda data, key=key: decode_claim(key, data),  # type: ignore[misc]
                entropy=entropy,
                on_trouble=patience.on_store,
            )
        except KeyTaken:
            log.info("another process claimed the epoch first", extra={"epoch": epoch})
            taken = epoch
            await asyncio.sleep(backoff.next_s())
            continue
        await _check_refused(store, key, body, patience)
        return epoch


async def _check_refused(store: ObjectStorage, key: str, body: bytes, patience: Patience) -> None:
    """Rule: every claimant sees that the store still refuses to create what exists. Raises StoreUnsuitable.

    A bucket may have moved since it was examined. The same bytes once more: a store that takes them changes nothing.
    """

    async def create() -> bool:
        try:
            await store.create(key, [body])
        except ObjectExists:
            return True
        return False

    if not await patience.retry_forever(create):
        raise StoreUnsuitable(
            f"the store let {key} be created twice: it no longer keeps create-if-absent, on which everything rests; "
            "see `automq doctor`, and move the data to a store that does"
        )
