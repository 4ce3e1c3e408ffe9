"""From settings to components."""

from automq.handlers.broker_configs import ConfigSource
from automq.metadata.records import Endpoint
from automq.server.config.setting import Machine
from automq.server.config.settings import Settings, build_settings, declared_settings
from automq.server.wiring import broker_configs, endpoints, group_settings, storage_settings

MACHINE = Machine(hostname="here")


def settings(**texts: str) -> Settings:
    values = {"node.id": "1", "automq.storage.uri": "file:///store"}
    return build_settings(values | {name.replace("__", "."): text for name, text in texts.items()}, machine=MACHINE)


def test_wal_pace_depends_on_the_store() -> None:
    assert storage_settings(settings()).wal_interval_ms == 2
    assert storage_settings(settings(automq__storage__uri="s3://bucket")).wal_interval_ms == 250
    assert storage_settings(settings(automq__wal__interval__ms="7")).wal_interval_ms == 7


def test_port_0_is_registered_as_the_real_one() -> None:
    made = settings(listeners="PLAINTEXT://:0")

    assert endpoints(made, {"PLAINTEXT": 40001}) == [Endpoint("PLAINTEXT", "here", 40001)]


def test_retention_of_offsets_is_in_milliseconds() -> None:
    assert group_settings(settings(offsets__retention__minutes="2")).offsets_retention_ms == 120_000


def test_every_setting_is_described() -> None:
    configs = broker_configs(settings(num__partitions="3"))

    assert list(configs.entries) == list(declared_settings())
    assert configs.entries["num.partitions"].source is ConfigSource.STATIC_BROKER
    assert configs.entries["num.partitions"].value == "3"
    assert configs.entries["automq.arena.bytes"].value == str(256 * 1024 * 1024)
    assert configs.entries["auto.create.topics.enable"].value == "true"
    assert configs.entries["broker.rack"].value is None
    assert configs.partitions_default == 3
