"""Errors are facts with fields."""

from automq.ids import Offset
from automq.s3stream.model import CorruptData, DataMissing, StreamError, StreamQuarantined


def test_damage_names_what_a_person_has_to_look_at() -> None:
    corrupt = CorruptData(key="c/data/1", offset=3, length=4, what="data block")
    missing = DataMissing(key="c/data/2", what="object")

    assert str(corrupt) == "corrupt data block in c/data/1 at byte 3, 4 bytes long"
    assert str(missing) == "object is missing: c/data/2"
    assert (corrupt.key, missing.key, StreamQuarantined("why", key="c/wal/3").key) == (
        "c/data/1",
        "c/data/2",
        "c/wal/3",
    )
    assert isinstance(missing, StreamError)


def test_the_same_damage_raised_again_is_an_error_of_its_own() -> None:
    first = CorruptData(key="k", offset=3, length=4, what="object index")
    again = first.again()
    again.hidden = (Offset(5), Offset(9))

    assert (first.hidden, str(first)) == (None, str(again))
    assert (again.key, again.offset, again.length, again.what) == ("k", 3, 4, "object index")
