"""Apache Kafka's own code reads the group records we write, and writes the same bytes; skipped where it is absent.

Against a running broker the same is seen with kafka-console-consumer on `__consumer_offsets` and the formatters
`org.apache.kafka.tools.consumer.OffsetsMessageFormatter` and `GroupMetadataMessageFormatter`.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

from automq.coordinators.group.records import encode
from tests.support import golden
from tests.unit.broker.coordinators.group.test_records import EXAMPLES

TESTBED = pathlib.Path(os.environ.get("TESTBED_HOME", pathlib.Path.home() / ".cache/testbed"))
LIBRARIES = TESTBED / "kafka/lib"
PROGRAM = pathlib.Path(__file__).parents[4] / "support/kafka/GroupRecords.java"

pytestmark = pytest.mark.skipif(
    shutil.which("java") is None or not LIBRARIES.exists(), reason="needs Java and Kafka's jars in the testbed"
)


def test_kafka_reads_our_records_and_writes_the_same_bytes() -> None:
    pairs = [encode(record) for record in EXAMPLES.values()]
    arguments = [text for key, value in pairs for text in (key.hex(), "-" if value is None else value.hex())]
    command = ["java", "-cp", f"{LIBRARIES}/*", str(PROGRAM), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = answer.stdout.splitlines()
    assert [text for number, text in enumerate(lines) if number % 3 != 2] == arguments
    golden.check_text("group_records/as_kafka_reads_them.txt", "\n".join(lines[2::3]) + "\n")
