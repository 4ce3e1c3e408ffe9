"""Parts of work that others may run between."""

import pytest

from automq.steps import slices


@pytest.mark.parametrize("count", [0, 1, 3, 4, 8, 9])
def test_slices_are_all_items_in_order_and_none_is_empty_or_too_long(count: int) -> None:
    items = list(range(count))
    found = list(slices(items, 4))
    assert [item for some in found for item in some] == items
    assert all(0 < len(some) <= 4 for some in found)


def test_few_items_are_not_copied() -> None:
    items = [1, 2]
    assert next(slices(items, 4)) is items
