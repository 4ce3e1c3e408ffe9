"""`automq consume`: records as lines, from any Kafka."""

from typing import Annotated

import typer

from automq.cli.options import BootstrapOption


def consume(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", "-f", help="Default: what comes from now on.")
    ] = False,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="This partition alone.")] = None,
    offset: Annotated[
        int | None, typer.Option("--offset", "-o", min=0, help="Begin here; with --partition, or for each.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many records.")] = None,
    exit_at_end: Annotated[bool, typer.Option("--exit-at-end", "-e", help="End at what is the end now.")] = False,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-k", help="Write the key and this before each value.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One object a line, with everything a record has.")] = False,
    bootstrap: BootstrapOption = "localhost:9092",
) -> None:
    """Write the records of a topic to standard output, one a line, until Ctrl-C; joins no group, commits nothing."""
    import json
    import sys

    from automq.cli.client import KafkaClient
    from automq.cli.lines import record_fields
    from automq.cli.output import address_of
    from automq.cli.receiving import Reader, Start

    if offset is not None and from_beginning:
        raise typer.BadParameter("--offset and --from-beginning are two places to begin; name one")
    start = Start(offset=offset, is_earliest=from_beginning, partition=partition)
    out = sys.stdout.buffer
    left = count
    with KafkaClient(address_of(bootstrap)) as client:
        reader = Reader(client, topic, start, on_gap=lambda message: typer.echo(message, err=True))
        while left != 0 and not (exit_at_end and reader.is_at_end):
            for index, record in reader.read():
                if json_:
                    line = json.dumps(record_fields(topic, index, record)).encode()
                else:
                    key = b"" if key_separator is None else (record.key or b"") + key_separator.encode()
                    line = key + (record.value or b"")
                out.write(line + b"\n")
                if left is not None:
                    left -= 1
                    if left == 0:
                        break
            out.flush()
