"""Pure: which reason an exception is, with a message that says what happened, to what, and what to do."""

from collections.abc import Mapping
from typing import Final

from automq.metadata.lease import LeaseContent
from automq.s3stream.model import BrokerFenced, FencedBy, FormatTooNew, StoreDamaged
from automq.s3stream.ports import (
    BucketNotFound,
    StoreAccessDenied,
    StoreCredentialsRejected,
    StoreError,
    StoreRefused,
    StoreSettingsInvalid,
    StoreUnsupported,
)
from automq.server.lifecycle.states import MEANINGS, Reason, Refused

FOLDERS_REMEDIES: Final[Mapping[Reason, str]] = {
    Reason.STORE_ACCESS_DENIED: "Give this process's user the right to read, write and delete in that folder, on a "
    "writable disk.",
    Reason.STORE_UNREACHABLE: "Look at the disk: whether it is full, hangs, or is gone.",
}
"""What to do where the store is a folder; the other reasons are the same for all kinds."""

FENCED_BY: Final[Mapping[FencedBy, str]] = {
    FencedBy.WAL_SLOT: "another process recovers the write-ahead log of this one",
    FencedBy.METADATA_LOG: "another process has become the controller of this cluster",
    FencedBy.CLAIM: "another process claimed this cluster while this one started",
    FencedBy.REGISTRATION: "this broker's registration in the cluster is superseded, or another broker recovers it",
}
"""What is known of the other process, by how it was noticed. Whether it has our node id, none of them tells."""


def reason_of(error: StoreError) -> Reason:
    """The reason that `error` gives to wait for."""
    match error:
        case StoreCredentialsRejected():
            return Reason.STORE_CREDENTIALS_REJECTED
        case StoreAccessDenied():
            return Reason.STORE_ACCESS_DENIED
        case BucketNotFound():
            return Reason.BUCKET_NOT_FOUND
        case StoreSettingsInvalid():
            return Reason.INVALID_SETTINGS
        case StoreRefused() | StoreUnsupported():
            return Reason.STORE_UNSUITABLE
        case _:
            return Reason.STORE_UNREACHABLE


def store_refusal(error: StoreError, store: str, *, operation: str | None = None) -> Refused:
    """What happened, to which store, at which operation, what to do."""
    reason = reason_of(error)
    what = str(error) or type(error).__name__
    named = what if store in what else f"{store}: {what}"
    at = "" if operation is None else f"{operation} fails: "
    return Refused(reason, f"{at}{named}. {remedy(reason, store)}")


def remedy(reason: Reason, store: str) -> str:
    """What to do about `reason`, in the words of this kind of store."""
    return (FOLDERS_REMEDIES if store.startswith("file:") else MEANINGS).get(reason, MEANINGS[reason])


def format_refusal(error: FormatTooNew, store: str) -> Refused:
    """A newer program has been here."""
    return Refused(
        Reason.STORE_FORMAT_TOO_NEW,
        f"{store}: {error}. Nothing was touched; run the version of this program that wrote it, or a newer one.",
    )


def damage_refusal(error: StoreDamaged, store: str) -> Refused:
    """Something that must be in the store is not, or does not decode; the message has the key and the remedy."""
    what = str(error)
    named = what if error.key in what else f"{what}: {error.key}"
    return Refused(Reason.STORE_DAMAGED, f"{store}: {named}. {MEANINGS[Reason.STORE_DAMAGED]}")


def fenced_message(fenced: BrokerFenced, successor: LeaseContent | None = None) -> str:
    """How it was noticed, and who runs the cluster now where the lease says so."""
    who = f"; node id {successor.node} is the controller now" if successor is not None else ""
    return f"{FENCED_BY[fenced.by]} ({fenced}){who}"
