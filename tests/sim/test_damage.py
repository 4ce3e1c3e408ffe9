"""What happens to a bucket while nobody looks is what a client finds afterwards."""

import pytest

from automq.s3stream.ports import ObjectNotFound
from tests.support.damage import Bucket
from tests.support.faults import run_now


def a_bucket(**bodies):
    bucket = Bucket(now_ms=lambda: 7)
    for key, body in bodies.items():
        run_now(bucket.create(key.replace("__", "/"), [body]))
    return bucket


def test_a_key_vanishes():
    bucket = a_bucket(a__1=b"x", a__2=b"y", b=b"z")

    assert bucket.vanish("a/1") == b"x"
    with pytest.raises(ObjectNotFound):
        run_now(bucket.get("a/1"))
    assert [info.key for info in run_now(bucket.list(""))] == ["a/2", "b"]
    assert bucket.vanish_all("a/") == {"a/2": b"y"}
    run_now(bucket.create("a/1", [b"again"]))
    assert bucket.find() == ["a/1", "b"]


def test_bits_flip_and_ends_are_cut_off():
    bucket = a_bucket(k=b"abcd")

    bucket.flip("k", -1, bit=1)
    assert bucket.body("k") == b"abcf"
    bucket.cut("k", 2)
    assert run_now(bucket.get("k")) == b"ab"


def test_strangers_are_listed():
    bucket = a_bucket(a__1=b"x")
    bucket.place("a/", b"")
    bucket.place("a/1~", b"mine")
    bucket.place("a/1~", b"mine, too")

    assert [(info.key, info.size) for info in run_now(bucket.list("a"))] == [("a/", 0), ("a/1", 1), ("a/1~", 9)]
