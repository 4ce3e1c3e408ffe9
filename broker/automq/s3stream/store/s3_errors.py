"""Pure: what an S3 server's answer means. The exact status and code decide.

412                               ObjectExists: the key is taken
409                               StoreConflict: somebody is at the same key; nothing happened
404 NoSuchKey, NoSuchUpload       ObjectNotFound; a 404 without such a code is not believed
404 NoSuchBucket                  BucketNotFound; another region's bucket as well
401, 403 and 400 with codes       StoreCredentialsRejected: who we say we are is not accepted
403                               StoreAccessDenied: we are known, and may not
405, 501                          StoreUnsupported
everything else                   StoreUnavailable: 5xx, 429, time-outs, what we do not understand
"""

import re
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
    StoreUnavailable,
    StoreUnsupported,
)

_CREDENTIALS: Final = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "InvalidTokenId",
        "NotSignedUp",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        # versitygw's, with a 404
        "XAdminUserNotFound",
    }
)
_ELSEWHERE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect"}
)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,500})</Message>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An S3 server's refusal."""

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.status} {self.code or '(no code)'}{': ' if self.message else ''}{self.message}"


def answer_in(text: str) -> Answer | None:
    """The server's answer as obstore's error texts quote it; None when they quote none."""
    status = _STATUS.search(text)
    if status is None:
        return None
    code, message = _CODE.search(text), _MESSAGE.search(text)
    return Answer(status=int(status[1]), code=code[1] if code else "", message=message[1].strip() if message else "")


def error_of(answer: Answer, what: str) -> StoreError:
    """The port's error for `answer` to `what`, a phrase such as 'create s3://bucket/key'."""
    text = f"{what}: the store answered {answer}"
    code, status = answer.code, answer.status
    if code in _CREDENTIALS or status == 401:
        return StoreCredentialsRejected(f"{text}; check the access key, the secret key and the session token")
    if code == "RequestTimeTooSkewed":
        return StoreCredentialsRejected(f"{text}; set this machine's clock")
    if code == "NoSuchBucket":
        return BucketNotFound(f"{text}; make the bucket, or name another")
    if code in _ELSEWHERE or status in (301, 307):
        return BucketNotFound(f"{text}; the bucket is in another region: name it with region=")
    match status:
        case 412:
            return ObjectExists(text)
        case 409:
            return StoreConflict(text)
        case 404 if code in ("NoSuchKey", "NoSuchUpload"):
            return ObjectNotFound(text)
        case 404:
            return StoreUnavailable(f"{text}, which is not NoSuchKey; is the endpoint an S3 server?")
        case 403:
            return StoreAccessDenied(f"{text}; allow it to get, put, delete and list below the prefix")
        case 405 | 501:
            return StoreUnsupported(text)
        case _:
            return StoreUnavailable(text)
