"""A repeated Fetch, in Python and compiled, beside what parses every request."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from automq import core
from automq.core import fetch_frame
from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.connection import parse_head
from automq.protocol.fetch_codec import session_epoch_at
from tests.support.data_path import fetch_request

KINDS = ["python"] + (["compiled"] if core.native is not None else [])
both = pytest.mark.parametrize("kind", KINDS)
int32s = st.integers(-(1 << 31), (1 << 31) - 1)


def match(kind: str, *arguments: Any) -> Any:
    return (core.native if kind == "compiled" else fetch_frame).match_fetch(*arguments)


def a_frame(version: int, correlation_id: int, epoch: int, client: str = "bench") -> bytes:
    request = fetch_request(max_wait=500, session_id=9, session_epoch=epoch)
    return encode_request(APIS[ApiKey.FETCH], version, correlation_id, client, request)


def epoch_at(frame: bytes, version: int) -> int:
    return 4 + session_epoch_at(version, parse_head(memoryview(frame)[4:]).body_offset)


@both
@given(version=st.integers(12, 18), first=int32s, again=int32s, epoch=int32s, client=st.text(max_size=9))
def test_repetition_is_recognised_in_all_versions(
    kind: str, version: int, first: int, again: int, epoch: int, client: str
) -> None:
    known, found = a_frame(version, first, 3, client), a_frame(version, again, epoch, client)
    at = epoch_at(known, version)
    for data in (found, bytearray(found + b"behind"), memoryview(found)):
        assert match(kind, data, known, at) == (again, epoch)


@both
@given(data=st.data())
def test_any_other_byte_makes_it_another_request(kind: str, data: st.DataObject) -> None:
    known = a_frame(15, 1, 3)
    at = epoch_at(known, 15)
    free = {*range(8, 12), *range(at, at + 4)}
    where = data.draw(st.sampled_from([index for index in range(len(known)) if index not in free]))
    other = bytearray(known)
    other[where] ^= data.draw(st.integers(1, 255))

    assert match(kind, bytes(other), known, at) is None
    assert match(kind, known[:-1], known, at) is None


@pytest.mark.skipif(core.native is None, reason="nothing was compiled")
@given(data=st.binary(max_size=40), frame=st.binary(max_size=40), at=st.integers(-50, 50))
@example(data=b"", frame=b"", at=0)
@example(data=bytes(16), frame=bytes(16), at=12)
def test_twins_agree_on_anything(data: bytes, frame: bytes, at: int) -> None:
    assert match("compiled", data, frame, at) == match("python", data, frame, at)
    assert match("compiled", frame + data, frame, at) == match("python", frame + data, frame, at)
