"""Keys: what the layout needs is taken, what a path or a URL could be led astray with is not."""

import pytest

from automq.s3stream.store.keys import KEY_BYTES_MAX, InvalidKey, check_deletable, check_key


@pytest.mark.parametrize(
    "key", ["cluster", "AbC-_123/wal/1/2/00000000000000000003", "a.b/c..d", "x=1/y+z@w:v,u~", "k" * 255]
)
def test_keys_of_letters_digits_and_some_signs_are_taken(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", ".tmp/x", "a/.b", "a b", "a\nb", "a\\b", "é", "a?", "a%41"],
)
def test_keys_that_could_be_misread_are_refused(key: str) -> None:
    with pytest.raises(InvalidKey, match="cannot be a part of the key"):
        check_key(key)


def test_long_keys_and_long_parts_are_refused() -> None:
    with pytest.raises(InvalidKey, match="at most 800"):
        check_key("/".join(["k" * 100] * 9))
    with pytest.raises(InvalidKey):
        check_key("k" * 256)
    assert len("/".join(["k" * 99] * 8)) <= KEY_BYTES_MAX
    check_key("/".join(["k" * 99] * 8))


@pytest.mark.parametrize("key", ["a/", "a b", "é", ".DS_Store", "a/.b", "a//b", "a%41", "k" * 1000, "a\nb", "a/...b"])
def test_k4_whatever_a_listing_shows_can_be_deleted(key: str) -> None:
    assert check_deletable(key) == key


@pytest.mark.parametrize("key", ["", "/", "/a", ".", "..", "a/../b", "../a", "a/./b"])
def test_what_leads_out_of_the_prefix_cannot_be_deleted(key: str) -> None:
    with pytest.raises(InvalidKey, match="below the prefix"):
        check_deletable(key)
