"""The settings tree and its sources."""

import os
import pathlib

import pytest

from automq.runtime.budget import ByteBudget
from automq.runtime.ledger import LEAST, TOTAL_LEAST, Account
from automq.server.config import settings as settings_module
from automq.server.config.message_limit import REQUEST_OVERHEAD_BYTES, message_limit
from automq.server.config.sections import UPLOAD_INTERVAL_MS
from automq.server.config.setting import Address, Listener, Machine
from automq.server.config.settings import (
    InvalidSettings,
    Settings,
    declared_settings,
    environment_name,
    load_settings,
    memory_limit,
    this_machine,
    topic_default_settings,
)
from automq.server.network.admission import CONNECTION_BYTES
from automq.server.network.receiving import Receiving

REQUIRED = ("node.id=7", "automq.storage.uri=file:///tmp/store")
MACHINE = Machine(hostname="here", memory_limit_bytes=None)
MIB = 1024 * 1024


def load(*flags: str, file: pathlib.Path | None = None, environment: dict[str, str] | None = None) -> Settings:
    return load_settings(file=file, flags=[*REQUIRED, *flags], environment=environment or {}, machine=MACHINE)


def test_defaults_are_filled_in() -> None:
    settings = load()

    assert settings.node.node_id == 7
    assert settings.memory[Account.ARENAS] == 256 * MIB
    assert settings.upload_bytes == 64 * MIB
    assert settings.memory[Account.BLOCK_CACHE] == 128 * MIB
    assert settings.server.http == Address(host="0.0.0.0", port=9404)
    assert settings.server.shutdown_timeout_ms == 20_000


def test_flag_wins_over_environment_which_wins_over_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broker.properties"
    file.write_text("node.id=1\nbroker.rack=file\nnum.partitions=1\nautomq.storage.uri=file:///tmp/store\n")
    environment = {"KAFKA_BROKER_RACK": "environment", "KAFKA_NUM_PARTITIONS": "2"}

    settings = load_settings(file=file, flags=["num.partitions=3"], environment=environment, machine=MACHINE)

    assert (settings.node.node_id, settings.node.rack, settings.topics.partitions_default) == (1, "environment", 3)


def test_a_file_takes_values_from_variables(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broker.properties"
    file.write_text("node.id=1\nautomq.storage.uri=file:///tmp/store\nbroker.rack=${env:ZONE}-${env:ROOM}-$ZONE\n")

    settings = load_settings(file=file, environment={"ZONE": "a", "ROOM": "${env:ZONE}"}, machine=MACHINE)

    assert settings.node.rack == "a-${env:ZONE}-$ZONE", "what a variable holds is a value, not another place"
    with pytest.raises(InvalidSettings, match="broker.rack names the environment variable ROOM, which is not set"):
        load_settings(file=file, environment={"ZONE": "a"}, machine=MACHINE)


def test_variables_are_named_as_in_kafkas_images() -> None:
    assert environment_name("node.id") == "KAFKA_NODE_ID"
    assert environment_name("automq.storage.uri") == "AUTOMQ_STORAGE_URI"


def test_unknown_variables_only_warn() -> None:
    settings = load(environment={"KAFKA_PORT_9092_TCP": "tcp://10.0.0.1:9092", "HOME": "/root"})

    assert settings.warnings == ("environment variable KAFKA_PORT_9092_TCP names no setting and is ignored",)


@pytest.mark.parametrize(
    ("flag", "key", "remedy"),
    [
        ("node.idd=1", "node.idd", "did you mean node.id?"),
        ("log.dirs=/tmp", "log.dirs", "set automq.storage.uri"),
        ("no.such.thing.at.all=1", "no.such.thing.at.all", "docs/broker.md lists all settings"),
        ("num.partitions=many", "num.partitions", "whole number"),
        ("num.partitions=0", "num.partitions", "between 1 and"),
        ("auto.create.topics.enable=yes", "auto.create.topics.enable", "true or false"),
        ("automq.wal.type=block", "automq.wal.type", "does not exist yet"),
        ("automq.wal.type=file", "automq.wal.type", "does not exist yet"),
        ("automq.wal.type=tape", "automq.wal.type", "must be s3"),
        ("listeners=PLAINTEXT://a:1,PLAINTEXT://b:2", "listeners", "occurs twice"),
        ("listeners=PLAINTEXT://nowhere", "listeners", "HOST:PORT"),
        ("listeners=", "listeners", "name one"),
        ("listeners=CLIENTS://:9092", "listeners", "listener.security.protocol.map"),
        ("advertised.listeners=OTHER://a:1", "advertised.listeners", "listeners does not have"),
        ("advertised.listeners=PLAINTEXT://:9092", "advertised.listeners", "name or an address"),
        ("listener.security.protocol.map=CLIENTS:SSL", "listener.security.protocol.map", "not served yet"),
        ("automq.upload.bytes=268435456", "automq.upload.bytes", "lower the first"),
        ("group.min.session.timeout.ms=1800001", "group.min.session.timeout.ms", "lower the first"),
        (
            "message.max.bytes=67108865",
            "message.max.bytes",
            "the largest batch, 67108864 bytes: the smallest of 67108864",
        ),
        ("listeners=SSL://:9093", "listeners", "TLS and SASL are not served yet"),
        ("listeners=SASL_SSL://:9093", "listeners", "TLS and SASL are not served yet"),
        ("automq.http.address=9404", "automq.http.address", "HOST:PORT"),
        ("log.cleanup.policy=shred", "log.cleanup.policy", ""),
    ],
)
def test_mistake_names_key_and_remedy(flag: str, key: str, remedy: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        load(flag)

    assert refused.value.key == key
    assert key in refused.value.message
    assert remedy in refused.value.message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("missing", ["node.id", "automq.storage.uri"])
def test_required_setting_is_named_when_it_is_missing(missing: str) -> None:
    flags = [flag for flag in REQUIRED if not flag.startswith(missing)]

    with pytest.raises(InvalidSettings, match="is required: set it in the file, with --set, or as") as refused:
        load_settings(flags=flags, environment={}, machine=MACHINE)
    assert refused.value.key == missing


def test_flag_given_twice_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="given twice"):
        load("node.id=8")


def test_key_given_twice_in_a_file_is_refused(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broker.properties"
    file.write_text("broker.rack=a\nbroker.rack=b\n")

    with pytest.raises(InvalidSettings, match="already given in line 1") as refused:
        load(file=file)
    assert refused.value.key == "broker.rack"


def test_file_that_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be read"):
        load(file=tmp_path / "none")


def test_adopting_another_cluster_than_the_named_one_is_a_contradiction() -> None:
    with pytest.raises(InvalidSettings, match="make them equal"):
        load("automq.cluster.id=a", "automq.storage.adopt=b")


@pytest.mark.parametrize(("session_ms", "interval_s"), [("2000", 0.5), ("3000", 0.75), ("4000", 1.0), ("600000", 1.0)])
def test_heartbeat_interval_follows_the_session(session_ms: str, interval_s: float) -> None:
    assert load(f"automq.broker.session.timeout.ms={session_ms}").membership.interval_s == interval_s


def test_heartbeat_interval_that_leaves_no_room_for_three_in_a_session_is_a_contradiction() -> None:
    interval, session = "automq.broker.heartbeat.interval.ms", "automq.broker.session.timeout.ms"
    assert load(f"{interval}=666", f"{session}=2000").membership.interval_s == 0.666
    with pytest.raises(
        InvalidSettings, match=r"below 667, remove it, which makes it 500, or raise .* above 2001"
    ) as no:
        load(f"{interval}=667", f"{session}=2000")
    assert no.value.key == interval
    with pytest.raises(InvalidSettings, match="no room for three"):
        load(f"{interval}=1000")


def test_termination_message_path_is_known_even_when_settings_are_refused() -> None:
    with pytest.raises(InvalidSettings) as refused:
        load("automq.termination.message.path=/tmp/last", "num.partitions=0")

    assert refused.value.termination_message_path == "/tmp/last"


def test_advertised_listeners_default_to_listeners_with_the_machines_name() -> None:
    settings = load(
        "listeners=PLAINTEXT://:9092,INSIDE://10.0.0.1:9093,OUTSIDE://:9094",
        "advertised.listeners=OUTSIDE://broker.example:443",
        "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
    )

    assert settings.advertised() == (
        Listener(name="PLAINTEXT", address=Address(host="here", port=9092)),
        Listener(name="INSIDE", address=Address(host="10.0.0.1", port=9093)),
        Listener(name="OUTSIDE", address=Address(host="broker.example", port=443)),
    )


def test_ipv6_addresses_have_brackets() -> None:
    (listener,) = load("listeners=PLAINTEXT://[::1]:9092").node.listeners

    assert listener.address == Address(host="::1", port=9092)
    assert str(listener.address) == "[::1]:9092"


def test_caches_shrink_with_the_cgroups_limit() -> None:
    machine = Machine(memory_limit_bytes=512 * MIB)

    settings = load_settings(flags=REQUIRED, environment={}, machine=machine)

    assert settings.memory[Account.ARENAS] < 256 * MIB
    assert settings.memory[Account.BLOCK_CACHE] < 128 * MIB
    assert sum(settings.memory.values()) <= 256 * MIB
    assert settings.upload_bytes <= settings.memory[Account.ARENAS] // 4


def test_the_time_bound_on_uploads_follows_the_write_ahead_log() -> None:
    assert load().engine.upload_interval_ms == 300_000
    assert load("automq.upload.interval.ms=700").engine.upload_interval_ms == 700
    assert UPLOAD_INTERVAL_MS == {"s3": 300_000, "block": 10_000, "file": 10_000}


def test_upload_follows_arenas_that_are_set_lower() -> None:
    assert load(f"automq.arena.bytes={64 * MIB}").upload_bytes == 16 * MIB


def test_memory_is_a_share_of_the_limit_and_one_gibibyte_at_most() -> None:
    small = load_settings(flags=REQUIRED, environment={}, machine=Machine(memory_limit_bytes=512 * MIB))
    large = load_settings(flags=REQUIRED, environment={}, machine=Machine(memory_limit_bytes=64 * 1024 * MIB))

    assert 0.44 * 512 * MIB < sum(small.memory.values()) <= 0.45 * 512 * MIB
    assert 1023 * MIB < sum(large.memory.values()) <= 1024 * MIB


def test_memory_that_somebody_set_is_split_as_a_whole() -> None:
    settings = load(f"automq.memory.bytes={4096 * MIB}")

    assert 4095 * MIB < sum(settings.memory.values()) <= 4096 * MIB
    assert settings.memory[Account.ARENAS] == 1024 * MIB


def test_accounts_that_are_set_stay_as_they_are_and_the_others_share_the_rest() -> None:
    settings = load(
        f"automq.memory.bytes={512 * MIB}",
        f"automq.arena.bytes={128 * MIB}",
        "automq.block.cache.bytes=0",
        f"queued.max.request.bytes={64 * MIB}",
    )

    chosen = (Account.ARENAS, Account.BLOCK_CACHE, Account.RECEIVE)
    assert [settings.memory[account] for account in chosen] == [128 * MIB, 0, 64 * MIB]
    assert 511 * MIB < sum(settings.memory.values()) <= 512 * MIB
    assert all(settings.memory[account] >= LEAST[account] for account in Account if account not in chosen)


def test_arenas_that_are_set_high_raise_the_default_total() -> None:
    assert sum(load(f"automq.arena.bytes={2048 * MIB}").memory.values()) > 2048 * MIB + 700 * MIB


def test_memory_that_is_too_small_is_refused_with_numbers() -> None:
    with pytest.raises(InvalidSettings, match=f"automq.memory.bytes={64 * MIB} is too small.*{TOTAL_LEAST}") as caught:
        load(f"automq.memory.bytes={64 * MIB}")
    assert caught.value.key == "automq.memory.bytes"

    with pytest.raises(InvalidSettings, match=f"45% of the memory limit of {128 * MIB}.*raise the memory limit to"):
        load_settings(flags=REQUIRED, environment={}, machine=Machine(memory_limit_bytes=128 * MIB))


def test_settings_that_exceed_the_total_together_are_refused_by_name() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(
            f"automq.memory.bytes={256 * MIB}",
            f"automq.arena.bytes={200 * MIB}",
            f"queued.max.request.bytes={99 * MIB}",
        )

    for words in (
        f"{200 * MIB} for automq.arena.bytes",
        f"{99 * MIB} for queued.max.request.bytes",
        str(256 * MIB),
        "lower",
    ):
        assert words in str(caught.value)


def test_an_upload_that_is_set_fits_its_account() -> None:
    settings = load(
        f"automq.memory.bytes={512 * MIB}", f"automq.arena.bytes={256 * MIB}", f"automq.upload.bytes={100 * MIB}"
    )

    assert settings.memory[Account.UPLOADS] >= 100 * MIB


def test_connections_that_somebody_set_are_an_account() -> None:
    settings = load("max.connections=20000", "max.connections.per.ip.overrides=10.0.0.7:200, [2001:DB8::1]:5")

    assert settings.memory[Account.CONNECTIONS] == 20_000 * CONNECTION_BYTES
    assert settings.server.connections_per_host_overrides == {"10.0.0.7": 200, "2001:db8::1": 5}
    with pytest.raises(InvalidSettings, match="max.connections"):
        load(f"automq.memory.bytes={256 * MIB}", "max.connections=1000000")


def test_kafkas_default_number_of_connections_means_as_many_as_fit() -> None:
    assert load("max.connections=2147483647").memory == load().memory


@pytest.mark.parametrize("text", ["host:5", "10.0.0.1", "10.0.0.1:x", "10.0.0.1:-1", "10.0.0.1:99999999999"])
def test_limits_of_an_address_must_be_addresses_and_numbers(text: str) -> None:
    with pytest.raises(InvalidSettings, match="max.connections.per.ip.overrides"):
        load(f"max.connections.per.ip.overrides={text}")


def test_memory_for_requests_carries_a_full_batch() -> None:
    with pytest.raises(InvalidSettings, match="queued.max.request.bytes=5 .*at least"):
        load("queued.max.request.bytes=5")


def test_memory_limit_is_the_lowest_of_version_2(tmp_path: pathlib.Path) -> None:
    group = tmp_path / "sys/fs/cgroup/kube/pod"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/kube/pod\n")
    (tmp_path / "sys/fs/cgroup/kube/memory.max").write_text("1000\n")
    (group / "memory.max").write_text("max\n")

    assert memory_limit(tmp_path) == 1000


def test_memory_limit_of_version_1_is_read(tmp_path: pathlib.Path) -> None:
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("2000\n")

    assert memory_limit(tmp_path) == 2000


def test_no_limit_is_none(tmp_path: pathlib.Path) -> None:
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")

    assert memory_limit(tmp_path) is None


def test_limit_of_the_machine_is_its_memory_where_no_cgroup_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for cgroup, expected in ((None, physical), (1 << 60, physical), (300 * MIB, 300 * MIB)):
        monkeypatch.setattr(settings_module, "memory_limit", lambda _root, cgroup=cgroup: cgroup)
        assert this_machine().memory_limit_bytes == expected


def test_every_variable_names_one_setting() -> None:
    names = [environment_name(key) for key in (*declared_settings(), *topic_default_settings())]

    assert len(set(names)) == len(names)


def test_topic_defaults_are_kept_under_the_brokers_names() -> None:
    assert load("log.retention.ms=1000").topic_defaults == {"log.retention.ms": "1000"}


@pytest.mark.parametrize("received_bytes", [8 * 2**20, 9_999_999, 64 * 2**20, 2**30])
def test_a_batch_may_not_be_larger_than_the_request_that_can_be_kept(received_bytes: int) -> None:
    sizes = {
        "queued.max.request.bytes": received_bytes,
        "automq.arena.bytes": 256 * 2**20,
        "automq.memory.bytes": 4 * 2**30,
    }
    keys = [f"{key}={size}" for key, size in sizes.items()]
    settings = load(*keys)
    limit = message_limit(settings.memory, settings.server.request_bytes_max).bytes_max

    receiving = Receiving(ByteBudget(received_bytes), call_soon=lambda _: None)
    assert limit == min(64 * 2**20, min(100 * 2**20, receiving.frame_bytes_max) - REQUEST_OVERHEAD_BYTES)
    load(*keys, f"message.max.bytes={limit}")
    with pytest.raises(InvalidSettings, match=f"queued.max.request.bytes={received_bytes} keeps"):
        load(*keys, f"message.max.bytes={limit + 1}")
