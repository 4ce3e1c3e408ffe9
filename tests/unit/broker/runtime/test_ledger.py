"""The memory ledger: how a total is split, and what its accounts say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.runtime.ledger import LEAST, MIB, SHARES, TOTAL_LEAST, Account, MemoryLedger, MemoryTooSmall, split_memory
from automq.runtime.telemetry import Metrics

BYTES = st.integers(min_value=0, max_value=1 << 34)


def test_shares_are_of_a_thousand_and_every_account_has_one() -> None:
    assert sum(SHARES.values()) == 1000
    assert set(SHARES) == set(LEAST) == set(Account)


@given(
    total=BYTES,
    fixed=st.dictionaries(st.sampled_from(Account), BYTES),
    least=st.dictionaries(st.sampled_from(Account), BYTES),
)
def test_accounts_never_exceed_the_total_and_none_gets_less_than_it_needs(
    total: int, fixed: dict[Account, int], least: dict[Account, int]
) -> None:
    needed = sum(fixed.values()) + sum(
        max(LEAST[account], least.get(account, 0)) for account in Account if account not in fixed
    )
    if total < needed:
        with pytest.raises(MemoryTooSmall) as caught:
            split_memory(total, fixed=fixed, least=least)
        assert caught.value.needed == needed
        total = needed
    limits = split_memory(total, fixed=fixed, least=least)

    assert set(limits) == set(Account)
    assert sum(limits.values()) <= total
    assert all(limits[account] == limit for account, limit in fixed.items())
    for account in set(Account) - set(fixed):
        assert limits[account] >= max(LEAST[account], least.get(account, 0))


@given(total=st.integers(min_value=TOTAL_LEAST, max_value=1 << 40))
def test_nearly_nothing_of_the_total_is_left_over(total: int) -> None:
    assert total - sum(split_memory(total).values()) < len(Account)


def test_a_gibibyte_carries_what_the_documents_promise() -> None:
    limits = split_memory(1024 * MIB)

    assert limits[Account.ARENAS] == 256 * MIB
    assert limits[Account.BLOCK_CACHE] == limits[Account.UPLOADS] == 128 * MIB
    assert limits[Account.RECEIVE] * 55 // 100 > 100 * MIB, "the long requests' part"


def test_too_small_says_what_would_do() -> None:
    with pytest.raises(MemoryTooSmall) as caught:
        split_memory(10 * MIB, fixed={Account.ARENAS: 20 * MIB})

    assert caught.value.needed == 20 * MIB + TOTAL_LEAST - LEAST[Account.ARENAS]


def test_every_account_is_a_metric_beside_its_limit() -> None:
    metrics = Metrics()
    ledger = MemoryLedger(split_memory(1024 * MIB), metrics)
    ledger[Account.RECEIVE].charge(12345)

    text = metrics.render().decode()
    assert 'automq_memory_bytes{account="receive"} 12345.0' in text
    assert 'automq_memory_limit_bytes{account="arenas"} 2.68435456e+08' in text
    for account in Account:
        assert f'automq_memory_limit_bytes{{account="{account.value}"}}' in text
        assert f'automq_memory_bytes{{account="{account.value}"}}' in text
    assert ledger.total == sum(ledger[account].limit for account in Account)


def test_a_snapshot_larger_than_its_account_takes_the_room_of_the_block_cache() -> None:
    """So that all accounts together are one total, however large the metadata are."""
    ledger = MemoryLedger(split_memory(1024 * MIB), Metrics())
    ledger[Account.BLOCK_CACHE].charge(ledger[Account.BLOCK_CACHE].limit)
    limit = ledger[Account.SNAPSHOTS].limit
    with ledger.snapshots.counting(limit + 5 * MIB):
        assert ledger[Account.BLOCK_CACHE].excess == 5 * MIB
    assert not ledger[Account.BLOCK_CACHE].excess
    assert not ledger.snapshots.used
