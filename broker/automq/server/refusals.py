"""Pure: which reason an exception of the store is, with a message that says what to do."""

from automq.s3stream.model import FormatTooNew
from automq.s3stream.ports import (
    BucketNotFound,
    StoreAccessDenied,
    StoreCredentialsRejected,
    StoreError,
)
from automq.server.lifecycle import MEANINGS, Reason, Refused


def reason_of(error: StoreError) -> Reason:
    """The reason that `error` gives to wait for."""
    match error:
        case StoreCredentialsRejected():
            return Reason.STORE_CREDENTIALS_REJECTED
        case StoreAccessDenied():
            return Reason.STORE_ACCESS_DENIED
        case BucketNotFound():
            return Reason.BUCKET_NOT_FOUND
        case _:
            return Reason.STORE_UNREACHABLE


def store_refusal(error: StoreError, store: str) -> Refused:
    """What happened, to which store, what to do."""
    reason = reason_of(error)
    what = str(error) or type(error).__name__
    return Refused(reason, f"{what if store in what else f'{store}: {what}'}. {MEANINGS[reason]}")


def format_refusal(error: FormatTooNew, store: str) -> Refused:
    """A newer program has been here."""
    return Refused(
        Reason.STORE_FORMAT_TOO_NEW,
        f"{store}: {error}. Nothing was touched; run the version of this program that wrote it, or a newer one.",
    )
