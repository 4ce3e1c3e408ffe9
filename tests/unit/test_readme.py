"""The numbers of README.md are those of the code."""

import pathlib
import re

from automq.controller import balancer, moves, topics
from automq.coordinators.group import offsets
from automq.partition import fetch_session, producer_state
from automq.protocol import connection
from automq.runtime.ledger import Account
from automq.s3stream import settings as engine
from automq.s3stream.store.uri import StoreKind
from automq.server.config.message_limit import message_limit
from automq.server.config.setting import Machine
from automq.server.config.settings import load_settings
from automq.server.network import wide_requests
from automq.server.network.host import ListenerSettings
from automq.server.network.receiving import frame_bytes_max
from automq.server.wiring import WAL_INTERVAL_MS
from automq_operator import api

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
TABLE = README.partition("\n## Limits\n")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| ([^|]+) \| (\d+) \|", re.MULTILINE)
MIB, GIB = 2**20, 2**30
REQUIRED = ("node.id=1", "automq.storage.uri=file:///x")
LIMITS = {
    "batch, MiB": engine.BATCH_BYTES_MAX // MIB,
    "request, bytes": ListenerSettings().request_bytes_max,
    "started requests of a connection": connection.IN_FLIGHT_MAX,
    "partitions in one change, created or moved": min(topics.PARTITIONS_MAX, moves.MOVES_MAX),
    "elements of a request that is not about partitions": wide_requests.PARTS_MAX,
    "name of a topic, characters": topics.NAME_LENGTH_MAX,
    "replication factor": topics.REPLICATION_FACTOR_MAX,
    "idempotent producers of a partition": producer_state.PRODUCERS_MAX,
    "partitions in fetch sessions of a broker": fetch_session.PARTITIONS_MAX,
    "one OffsetCommit, MiB": offsets.COMMIT_BYTES_MAX // MIB,
    "partitions that the balancer moves at once": balancer.MOVES_MAX,
    "brokers of a cluster on Kubernetes": api.REPLICAS_MAX,
}


def test_table_of_limits_has_the_numbers_of_the_code() -> None:
    assert {name.strip(): int(number) for name, number in ROW.findall(TABLE)} == LIMITS
    assert topics.PARTITIONS_MAX == moves.MOVES_MAX


def found(pattern: str) -> list[float]:
    """The numbers of the one sentence that matches."""
    (match,) = re.findall(pattern, README.replace("\n", " "))
    return [float(number) for number in (match if isinstance(match, tuple) else (match,))]


def test_what_a_memory_limit_carries_is_what_the_accounts_say() -> None:
    sentence = r"limit of (\d+) MiB a batch may have .*?, (\d+) MiB, and a request (\d+) MiB"
    limit_mib, batch_mib, request_mib = found(sentence)
    settings = load_settings(flags=REQUIRED, environment={}, machine=Machine(memory_limit_bytes=int(limit_mib) * MIB))

    limit = message_limit(settings.memory, settings.server.request_bytes_max)
    assert limit.bytes_max // MIB == batch_mib
    assert frame_bytes_max(settings.memory[Account.RECEIVE]) // MIB == request_mib


def test_memory_for_the_requests_of_kafka_is_what_it_takes() -> None:
    (gib,) = found(r"Kafka's 100 MiB take ([\d.]+) GiB")

    def carries(limit_gib: float) -> bool:
        machine = Machine(memory_limit_bytes=int(limit_gib * GIB))
        settings = load_settings(flags=REQUIRED, environment={}, machine=machine)
        return frame_bytes_max(settings.memory[Account.RECEIVE]) >= ListenerSettings().request_bytes_max

    assert carries(gib)
    assert not carries(gib - 0.1)


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    assert found(r"gathered for (\d+) ms by default") == [WAL_INTERVAL_MS[StoreKind.S3]]
    assert found(r"any replication factor up to (\d+)") == [topics.REPLICATION_FACTOR_MAX]
