"""What a broker may tune of its engine."""

from automq.s3stream.settings import MIB, StorageSettings


def test_default_settings_are_the_documented_ones() -> None:
    settings = StorageSettings()

    assert (settings.arena_bytes, settings.upload_bytes, settings.block_cache_bytes) == (256 * MIB, 64 * MIB, 128 * MIB)
    assert (settings.upload_interval_ms, settings.wal_batch_bytes) == (300_000, 4 * MIB)
    assert settings.arena_unit_bytes * settings.arenas_max == settings.arena_bytes


def test_arena_holds_a_whole_slot_however_small_the_budget() -> None:
    settings = StorageSettings(arena_bytes=MIB)

    assert settings.arena_unit_bytes >= settings.wal_batch_bytes
