"""What a map under change hands on, and what it says was touched."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from automq.metadata.change import ChangingMap, MetadataChange
from automq.metadata.image import EMPTY

BASE: Map[str, object] = Map({"a": object(), "b": object()})


def test_untouched_is_the_very_same_map() -> None:
    changing = ChangingMap(BASE)
    assert "a" in changing
    assert changing.get("c", "none") == "none"
    assert changing.take() == (BASE, {})
    assert changing.take()[0] is BASE


def test_b5_set_to_the_same_value_is_the_very_same_map() -> None:
    changing = ChangingMap(BASE)
    changing["a"] = BASE["a"]
    assert changing.pop("absent", 7) == 7
    now, touched = changing.take()
    assert now is BASE
    assert not touched


def test_touched_keys_come_in_order_and_once() -> None:
    changing = ChangingMap(BASE)
    changing["z"] = 1
    changing["b"] = 2
    changing["z"] = 3
    del changing["a"]
    now, touched = changing.take()
    assert list(touched) == ["z", "b", "a"]
    assert now == Map({"b": 2, "z": 3})
    assert set(BASE) == {"a", "b"}
    changing["n"] = 1
    assert list(changing.take()[1]) == ["n"]
    assert "n" not in now


@given(st.lists(st.tuples(st.sampled_from(["set", "pop", "take"]), st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_is_a_dict_that_knows_what_differs(steps: list[tuple[str, int, int]]) -> None:
    model: dict[int, int] = {}
    taken: Map[int, int] = Map()
    changing: ChangingMap[int, int] = ChangingMap(taken)
    for step, key, value in [*steps, ("take", 0, 0)]:
        if step == "set":
            model[key] = value
            changing[key] = value
        elif step == "pop":
            assert changing.pop(key, None) == model.pop(key, None)
        else:
            now, touched = changing.take()
            assert dict(now) == model
            absent: Any = object()
            assert set(touched) >= {k for k in range(6) if taken.get(k, absent) is not now.get(k, absent)}
            assert (now is taken) == (not touched)
            taken = now
        assert len(changing) == len(model)
        assert changing.get(key) == model.get(key)
        assert (key in changing) == (key in model)


def test_between_equal_images_nothing_is_touched() -> None:
    change = MetadataChange.between(EMPTY, EMPTY.with_record_number(7))
    assert not any((change.brokers, change.wals, change.topics, change.streams, change.quarantines, change.configs))
