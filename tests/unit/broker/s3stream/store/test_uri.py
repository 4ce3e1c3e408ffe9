"""Store URIs: three shapes, each understood or refused with a word on what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.runtime.entropy import SeededEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.store.s3 import S3Store
from automq.s3stream.store.s3_checksums import Checksum
from automq.s3stream.store.uri import InvalidStoreUri, StoreKind, StoreUri, open_store, parse_store_uri


def test_bucket_alone() -> None:
    assert parse_store_uri("s3://my-bucket") == StoreUri(kind=StoreKind.S3, bucket="my-bucket")


def test_bucket_with_everything() -> None:
    uri = parse_store_uri("s3://b-1/a/b/?endpoint=http://127.0.0.1:9000/&region=eu-west-1&path_style=false")

    assert uri == StoreUri(
        kind=StoreKind.S3,
        bucket="b-1",
        prefix="a/b",
        endpoint="http://127.0.0.1:9000",
        region="eu-west-1",
        path_style=False,
    )
    assert str(uri) == "s3://b-1/a/b?endpoint=http://127.0.0.1:9000&region=eu-west-1&path_style=false"


def test_store_that_wants_content_md5() -> None:
    uri = parse_store_uri("s3://bucket?checksum=md5")

    assert uri.checksum is Checksum.MD5
    assert str(uri) == "s3://bucket?checksum=md5"
    assert str(parse_store_uri("s3://bucket?checksum=crc32c")) == "s3://bucket"


@pytest.mark.parametrize(
    "text", ["file:///var/lib/automq", "file:///var/lib/automq/", "file://localhost/var/lib/automq"]
)
def test_folder(text: str) -> None:
    assert parse_store_uri(text) == StoreUri(kind=StoreKind.FILE, folder="/var/lib/automq")


def test_folder_with_a_space() -> None:
    uri = parse_store_uri("file:///my%20data")

    assert uri.folder == "/my data"
    assert str(uri) == "file:///my%20data"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is no store URI; write s3://"),
        ("/var/lib", "is no store URI; write s3://"),
        ("gs://bucket", "is no store URI; write s3://"),
        ("s3:bucket", "is no store URI"),
        ("s3://", "names no bucket"),
        ("s3://b", "names no bucket"),
        ("s3://bu_cket!/x", "names no bucket"),
        ("s3://key:secret@bucket", "names no bucket"),
        ("s3://bucket/a/../b", "the prefix is none"),
        ("s3://bucket/a//b", "the prefix is none"),
        ("s3://bucket?endpoint=localhost:9000", "write endpoint=https://HOST"),
        ("s3://bucket?endpoint=http://a?b", "write endpoint=https://HOST"),
        ("s3://bucket?path_style=yes", "path_style is true or false"),
        ("s3://bucket?checksum=sha1", "checksum is crc32c or md5, not 'sha1'"),
        ("s3://bucket?Region=x", "known are endpoint, region, path_style and checksum"),
        ("s3://bucket?region=", "without a value"),
        ("s3://bucket?region=a&region=b", "twice"),
        ("s3://bucket#x", "contains '#'"),
        ("s3://[bucket", "is no store URI"),
        ("file://var/lib", "three slashes: file:///var/lib"),
        ("file:///", "names no folder"),
        ("file:///a/../b", "names no folder"),
        ("file:///a//b", "names no folder"),
        ("file:///a?x=1", "a file store takes none"),
    ],
)
def test_what_is_wrong_is_said(text: str, word: str) -> None:
    with pytest.raises(InvalidStoreUri) as error:
        parse_store_uri(text)

    assert word in str(error.value)


@given(
    st.builds(
        StoreUri,
        kind=st.just(StoreKind.S3),
        bucket=st.from_regex(r"[a-z0-9][a-z0-9.-]{2,20}", fullmatch=True),
        prefix=st.sampled_from(["", "a", "a/b-c/d=1"]),
        endpoint=st.sampled_from([None, "http://localhost:9000", "https://s3.example.com/base"]),
        region=st.sampled_from([None, "eu-west-1"]),
        path_style=st.sampled_from([None, True, False]),
    )
)
def test_text_of_a_bucket_means_the_same_bucket(uri: StoreUri) -> None:
    assert parse_store_uri(str(uri)) == uri


@given(st.lists(st.text(min_size=1).filter(lambda part: part not in (".", "..") and "/" not in part), min_size=1))
def test_text_of_a_folder_means_the_same_folder(parts: list[str]) -> None:
    folder = "/" + "/".join(parts)
    if "\0" in folder or any("\ud800" <= letter <= "\udfff" for letter in folder):
        return
    uri = StoreUri(kind=StoreKind.FILE, folder=folder)

    assert parse_store_uri(str(uri)) == uri


def test_open_store_makes_the_adapter_without_any_io(tmp_path) -> None:
    workers, entropy = InlineWorkers(), SeededEntropy(1)

    for text, adapter in (
        ("memory:", MemoryStore),
        (f"file://{tmp_path}/missing/store", FileStore),
        ("s3://bucket?endpoint=http://127.0.0.1:1", S3Store),
    ):
        assert isinstance(open_store(parse_store_uri(text), workers=workers, entropy=entropy), adapter)
