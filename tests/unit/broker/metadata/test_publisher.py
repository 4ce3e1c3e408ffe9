"""Who is told of a change, and in which order."""

from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.publisher import MetadataPublisher

ONE, TWO = EMPTY.with_record_number(1), EMPTY.with_record_number(2)


def test_subscribers_are_told_old_and_new_in_order() -> None:
    publisher, told = MetadataPublisher(), list[tuple[str, int, int]]()

    def note(name: str, old: MetadataImage, new: MetadataImage) -> None:
        assert publisher.image is new
        told.append((name, old.record_number, new.record_number))

    publisher.subscribe(lambda old, new: note("first", old, new))
    end = publisher.subscribe(lambda old, new: note("second", old, new))
    publisher.publish(ONE)
    end()
    end()
    publisher.publish(TWO)

    assert told == [("first", 0, 1), ("second", 0, 1), ("first", 1, 2)]


def test_the_same_image_is_no_change() -> None:
    publisher, told = MetadataPublisher(ONE), list[int]()
    publisher.subscribe(lambda old, new: told.append(1))
    publisher.publish(ONE)
    assert told == []
