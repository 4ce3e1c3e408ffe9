"""Record batches of the simulated clients: what is built is read back, and damage is seen."""

import pytest

from tests.support.batches import BadBatch, build_batch, parse_batches


def a_batch(*values, **options):
    return build_batch(values, timestamp_ms=1_700_000_000_000, **options)


def test_values_are_read_back():
    values = (b"", b"one", bytes(200), bytes(range(256)) * 90)
    (batch,) = parse_batches(a_batch(*values, producer_id=7, producer_epoch=1, base_sequence=40))

    assert batch.values == values
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 40)
    assert batch.end_offset == 4


def test_a_batch_cut_off_at_the_end_is_left_out():
    data = a_batch(b"one") + a_batch(b"two")

    assert [batch.values for batch in parse_batches(data[:-1])] == [(b"one",)]


def test_damage_is_seen():
    data = bytearray(a_batch(b"one"))
    data[-3] ^= 1

    with pytest.raises(BadBatch, match="checksum"):
        list(parse_batches(data))


def test_kafka_python_reads_what_is_built():
    from kafka.record import MemoryRecords

    records = MemoryRecords(a_batch(b"one", b"two", producer_id=7, producer_epoch=0, base_sequence=3))
    batch = records.next_batch()

    assert batch.validate_crc()
    assert [record.value for record in batch] == [b"one", b"two"]
