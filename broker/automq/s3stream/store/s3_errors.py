"""Pure: what an S3 server's answer means. The code decides where it is known, else the status.

    code                              error
    of a key, a token, a clock        StoreCredentialsRejected: who we say we are is not accepted
    NoSuchBucket and its kind         BucketNotFound; another region's bucket as well
    of a name or an endpoint          StoreSettingsInvalid: nothing but another setting heals it
    NoSuchKey, NoSuchUpload           ObjectNotFound

    status                            error
    3xx                               BucketNotFound: the bucket is in another region
    401                               StoreCredentialsRejected
    403                               StoreAccessDenied: we are known, and may not
    405, 501                          StoreUnsupported
    408, 425, 429, 5xx                StoreUnavailable, as everything that is no answer
    409                               StoreConflict: somebody is at the same key; nothing happened
    412                               ObjectExists: the key is taken
    other 4xx                         StoreRefused; a 404 without a code above is not believed

A 400 to a request that was hurt on its way is `HurtRequest`: nothing happened, and it is worth repeating.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from automq.s3stream.ports import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreConflict,
    StoreCredentialsRejected,
    StoreError,
    StoreRefused,
    StoreSettingsInvalid,
    StoreUnavailable,
    StoreUnsupported,
)

_CHECK_KEYS: Final = "check the access key, the secret key and the session token"
_CLOCK: Final = "set this machine's clock"
_MAKE_BUCKET: Final = "make the bucket, or name another"
_REGION: Final = "the bucket is in another region: name it with region="
_NAMES: Final = "name the bucket, its prefix and endpoint= in the store's URI as the store knows them"
_PERMISSION: Final = "allow it to get, put, delete and list below the prefix"
_ENCRYPTION: Final = "the bucket's encryption key cannot be used: enable it, or give the bucket another"

# Codes that mean the same whatever the status: which error, and what to do.
MEANINGS: Final[Mapping[str, tuple[type[StoreError], str]]] = {
    **dict.fromkeys(
        (
            "AuthFailure",
            "CredentialsNotSupported",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "InvalidSignature",
            "InvalidToken",
            "InvalidTokenId",
            "MissingAuthenticationToken",
            "MissingSecurityElement",
            "MissingSecurityHeader",
            "NotSignedUp",
            "SignatureDoesNotMatch",
            "TokenCodeInvalidError",
            "TokenRefreshRequired",
            "UnrecognizedClientException",
            # versitygw's, with a 404
            "XAdminUserNotFound",
        ),
        (StoreCredentialsRejected, _CHECK_KEYS),
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), (StoreCredentialsRejected, _CLOCK)),
    **dict.fromkeys(
        ("NoSuchBucket", "NoSuchAccessPoint", "NoSuchMultiRegionAccessPoint"), (BucketNotFound, _MAKE_BUCKET)
    ),
    **dict.fromkeys(
        (
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "IncorrectEndpoint",
            "InvalidRegion",
            "PermanentRedirect",
            "PermanentRedirectControlError",
            "Redirect",
            "TemporaryRedirect",
        ),
        (BucketNotFound, _REGION),
    ),
    **dict.fromkeys(
        (
            "EndpointNotFound",
            "InvalidAccessPoint",
            "InvalidAccessPointAliasError",
            "InvalidBucketName",
            "InvalidHostHeader",
            "InvalidURI",
            "KeyTooLongError",
        ),
        (StoreSettingsInvalid, _NAMES),
    ),
    **dict.fromkeys(
        (
            "KMS.DisabledException",
            "KMS.InvalidKeyUsageException",
            "KMS.KMSInvalidStateException",
            "KMS.NotFoundException",
        ),
        (StoreRefused, _ENCRYPTION),
    ),
    "MissingContentMD5": (StoreRefused, "add checksum=md5 to the store's URI"),
    "NoSuchKey": (ObjectNotFound, ""),
    "NoSuchUpload": (ObjectNotFound, ""),
    "InvalidObjectState": (StoreRefused, "the object is archived: restore it, and keep the prefix out of such rules"),
}
_HURT: Final = frozenset(
    {
        "BadDigest",
        "ConnectionClosedByRequester",
        "IncompleteBody",
        "RequestTimeout",
        "ResponseInterrupted",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,500})</Message>")
# What object_store says of a redirect that does not say where to, as Amazon's to another region's bucket.
_REDIRECT_TO_NOWHERE: Final = "redirect without LOCATION"
# What obstore makes of an answer whose status it does not tell.
_STATUS_OF_CLASS: Final[Mapping[str, int]] = {
    "AlreadyExistsError": 412,
    "FileNotFoundError": 404,
    "NotSupportedError": 501,
    "NotImplementedError": 501,
    "PermissionDeniedError": 403,
    "PreconditionError": 412,
    "UnauthenticatedError": 401,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An S3 server's refusal."""

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.status} {self.code or '(no code)'}{': ' if self.message else ''}{self.message}"


class HurtRequest(StoreError):
    """The request did not arrive as it was sent, or not in time: nothing happened, and another try may do.

    No refusal, though S3 answers it with a 400: it heals with the network. Nor an unknown outcome.
    """


def answer_of_body(status: int, body: bytes) -> Answer:
    """The refusal that an HTTP answer is."""
    text = body[:8192].decode("utf-8", "replace")
    code, message = _CODE.search(text), _MESSAGE.search(text)
    return Answer(status=status, code=code[1] if code else "", message=message[1].strip() if message else "")


def answer_in(text: str, *, class_name: str = "") -> Answer | None:
    """The server's answer as obstore's errors quote it; None when they quote none."""
    status = _STATUS.search(text)
    if status is None and _REDIRECT_TO_NOWHERE in text:
        return Answer(status=301, code="PermanentRedirect", message="a redirect that does not say where to")
    number = int(status[1]) if status is not None else _STATUS_OF_CLASS.get(class_name)
    return answer_of_body(number, text.encode()) if number is not None else None


def error_of(answer: Answer, what: str) -> StoreError:
    """The port's error for `answer` to `what`, a phrase such as 'create s3://bucket/key'."""
    text = f"{what}: the store answered {answer}"
    known = MEANINGS.get(answer.code)
    if known is not None:
        error, advice = known
        return error(f"{text}; {advice}" if advice else text)
    return _by_status(answer, text)


def _by_status(answer: Answer, text: str) -> StoreError:
    match answer.status:
        case 412:
            return ObjectExists(text)
        case 409:
            return StoreConflict(text)
        case 401:
            return StoreCredentialsRejected(f"{text}; {_CHECK_KEYS}")
        case 403:
            return StoreAccessDenied(f"{text}; {_PERMISSION}")
        case 404:
            return StoreRefused(f"{text}, which is not NoSuchKey; is the endpoint an S3 server?")
        case 501:
            return StoreUnsupported(f"{text}; if it is the checksum of what is written, add checksum=md5 to its URI")
        case 405:
            return StoreUnsupported(text)
        case 408 | 425 | 429:
            return StoreUnavailable(text)
        case status if 300 <= status < 400:
            return BucketNotFound(f"{text}; {_REGION}")
        case 400 if answer.code in _HURT:
            return HurtRequest(f"{text}; what was sent did not arrive whole and in time: see to the network in between")
        case status if 400 <= status < 500:
            return StoreRefused(text)
        case _:
            return StoreUnavailable(text)
