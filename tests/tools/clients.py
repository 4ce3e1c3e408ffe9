"""Clients of other languages and times."""

import os
import pathlib
from functools import partial

from tests.tools.job import FETCH_S, HERE, JOBS, Job, Surroundings, call, fetched, jars, need

JAVA_CLIENTS = ("2.8.2", "3.9.1", "4.3.1")
"""Three generations: the last of ZooKeeper's time, the last of the old protocol versions, today's."""
# The tools are short: a quick start is worth more than fast code.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m")
KAFKAJS = "kafkajs@2.2.4"


def java(at: Surroundings) -> str:
    """The jars are `at.prepared`."""
    command = [*JAVA, "-cp", at.prepared, HERE / "Client.java", at.bootstrap]
    shown = call(command, timeout_s=at.left_s)
    assert "RIGHT 500" in shown, shown
    return "500 idempotent records with headers, a group, commits, configs, deletion"


def kafkajs(at: Surroundings) -> str:
    """Run where its modules are."""
    shown = call(["node", HERE / "client.js", at.bootstrap], timeout_s=at.left_s, env=node_environment(at.prepared))
    assert "RIGHT 300" in shown, shown
    return "300 idempotent records with headers, a group, its offsets"


def node_environment(folder: pathlib.Path) -> dict[str, str]:
    """Where Node finds the modules of `folder`."""
    return {**os.environ, "NODE_PATH": str(folder / "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}


def prepare_kafkajs() -> pathlib.Path:
    need("node")

    def fetch(folder: pathlib.Path) -> None:
        need("npm")
        call(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, KAFKAJS], timeout_s=FETCH_S)

    return fetched("kafkajs-2.2.4", "node_modules/kafkajs/package.json", fetch)


JOBS += [
    *(
        Job(
            f"java-client-{version}",
            java,
            partial(jars, f"java-client-{version}", [f"org.apache.kafka:kafka-clients:{version}"]),
        )
        for version in JAVA_CLIENTS
    ),
    Job("kafkajs", kafkajs, prepare_kafkajs),
]
