"""Records as lines, both ways."""

import json

import pytest

from automq.cli.failures import CommandFailed
from automq.cli.lines import parse_json_line, parse_line, record_fields
from automq.cli.produce import BATCH_BYTES_MAX, batches_of
from automq.cli.sending import Outgoing
from automq.protocol.records import Record


@pytest.mark.parametrize(
    "record",
    [
        Record(key=b"k", value=b"v", headers=[("h", b"x"), ("none", None)]),
        Record(key=None, value=None),
        Record(key=b"", value=b""),
        Record(key=b"\xff", value=bytes(range(256)), headers=[("h", b"\xfe")]),
        Record(key="schlüssel".encode(), value="ünïcode\n".encode()),
    ],
)
def test_what_is_written_is_read_back(record: Record) -> None:
    line = json.dumps(record_fields("orders", 3, record)).encode()
    assert b"\n" not in line

    read = parse_json_line(line, 1, partition=None, headers=[])

    assert (read.key, read.value, read.partition) == (record.key, record.value, 3)
    assert list(read.headers) == list(record.headers)


def test_value_that_is_an_object_is_sent_as_its_json() -> None:
    read = parse_json_line(b'{"value": {"a": [1, null]}}', 1, partition=2, headers=[("h", b"x")])

    assert json.loads(read.value or b"") == {"a": [1, None]}
    assert (read.partition, list(read.headers)) == (2, [("h", b"x")])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[1]",
        b"{",
        b'{"headers": [{}]}',
        b'{"headers": 3}',
        b'{"value_base64": "?"}',
        b'{"partition": "x"}',
        b"\xff",
    ],
)
def test_line_that_is_no_record_names_its_number(line: bytes) -> None:
    with pytest.raises(CommandFailed, match="line 7"):
        parse_json_line(line, 7, partition=None, headers=[])


def test_key_ends_at_the_first_separator() -> None:
    assert parse_line(b"a::b:c", 1, separator=b":", partition=None, headers=[]) == Outgoing(
        key=b"a", value=b":b:c", headers=[]
    )
    assert parse_line(b"", 1, separator=None, partition=None, headers=[]).value == b""
    with pytest.raises(CommandFailed, match="line 3 has no ':'"):
        parse_line(b"a", 3, separator=b":", partition=None, headers=[])


def test_batches_are_bounded_by_number_and_bytes_and_keep_the_order() -> None:
    small = [Outgoing(value=b"%d" % number) for number in range(7)]
    assert [len(batch) for batch in batches_of(iter(small), records_max=3)] == [3, 3, 1]
    large = [
        Outgoing(value=bytes(BATCH_BYTES_MAX - 1)),
        Outgoing(value=b"xx"),
        Outgoing(value=bytes(BATCH_BYTES_MAX * 2)),
    ]
    batches = list(batches_of(iter(large), records_max=1000))

    assert [len(batch) for batch in batches] == [1, 1, 1]
    assert [record for batch in batches for record in batch] == large
    assert list(batches_of(iter([]), records_max=3)) == []
