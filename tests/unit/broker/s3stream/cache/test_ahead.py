"""What is loaded ahead: half of a cache at most, less when it goes unread, more again when it is read."""

from automq.s3stream.cache.ahead import Ahead


def test_half_of_the_cache_may_wait_to_be_read() -> None:
    ahead: Ahead[int] = Ahead(1000)
    for number in range(5):
        assert ahead.has_room
        ahead.begin(number, 100)
    ahead.begin(4, 100)
    assert not ahead.has_room

    ahead.read(0)
    ahead.read(0)
    assert ahead.has_room


def test_what_goes_unread_makes_less_room_and_what_is_read_makes_it_again() -> None:
    ahead: Ahead[int] = Ahead(1600)
    for number in range(8):
        ahead.begin(number, 100)
    for number in range(4):
        ahead.lose(number)
    assert not ahead.has_room, "400 of 800 went unread, 400 are waiting"

    for number in range(4, 8):
        ahead.read(number)
    assert ahead.has_room
    for number in range(100, 105):
        ahead.begin(number, 100)
    assert not ahead.has_room, "400 were read, so the limit is at 500"


def test_a_little_is_always_tried() -> None:
    ahead: Ahead[int] = Ahead(1600)
    for number in range(100):
        ahead.begin(number, 100)
        ahead.lose(number)
    assert ahead.has_room
    ahead.begin(0, 100)
    assert not ahead.has_room


def test_what_was_not_loaded_after_all_counts_as_neither() -> None:
    ahead: Ahead[int] = Ahead(1600)
    ahead.begin(0, 800)
    assert not ahead.has_room
    ahead.forget(0)
    ahead.begin(1, 700)
    assert ahead.has_room


def test_without_a_cache_nothing_is_loaded_ahead() -> None:
    assert not Ahead[int](0).has_room
