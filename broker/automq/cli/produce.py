"""`automq produce`: lines of standard input as records, to any Kafka."""

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from automq.cli.options import BootstrapOption

if TYPE_CHECKING:
    from automq.cli.sending import Outgoing

BATCH_RECORDS_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 512 * 1024


class Codec(enum.Enum):
    """How batches are compressed."""

    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-k", help="What stands before it in a line is the key.")
    ] = None,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Default: by key.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="Of every record; repeatable.")
    ] = None,
    compression: Annotated[Codec, typer.Option("--compression", "-z")] = Codec.NONE,
    json_: Annotated[
        bool, typer.Option("--json", help="Lines are objects: value, key, headers, partition; as consume writes them.")
    ] = False,
    bootstrap: BootstrapOption = "localhost:9092",
) -> None:
    """Write each line of standard input as a record; ends at its end, when all are acknowledged."""
    import sys

    from automq.cli.client import KafkaClient
    from automq.cli.lines import parse_json_line, parse_line
    from automq.cli.output import address_of
    from automq.cli.sending import Sender
    from automq.protocol.compression import Compression

    headers: list[tuple[str, bytes | None]] = []
    for text in header or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"--header {text} has no value; write --header NAME=VALUE")
        headers.append((name, value.encode()))
    separator = None if key_separator is None else key_separator.encode()

    def parsed() -> Iterator["Outgoing"]:
        for number, line in enumerate(sys.stdin.buffer, 1):
            text = line.rstrip(b"\r\n")
            if json_:
                yield parse_json_line(text, number, partition=partition, headers=headers)
            else:
                yield parse_line(text, number, separator=separator, partition=partition, headers=headers)

    with KafkaClient(address_of(bootstrap)) as client:
        sender = Sender(client, topic, compression=Compression[compression.name])
        # At a terminal somebody waits for each line to be there.
        records_max = 1 if sys.stdin.isatty() else BATCH_RECORDS_MAX
        for batch in batches_of(parsed(), records_max=records_max):
            sender.send(batch)
    typer.echo(f"{sender.sent} records are in {topic}", err=True)


def batches_of(records: Iterator["Outgoing"], *, records_max: int) -> Iterator[list["Outgoing"]]:
    """`records` in order, as many together as make a good batch."""
    batch: list[Outgoing] = []
    size = 0
    for record in records:
        length = len(record.key or b"") + len(record.value or b"")
        if batch and size + length > BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
        if len(batch) >= records_max:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
