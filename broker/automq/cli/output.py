"""How commands show what they found: a table for people, plain columns in a pipe, JSON where it is asked for."""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence

import typer
from rich.console import Console
from rich.table import Table

from automq.server.config.setting import Address, ValueRefused, parse_address

# Wide enough that a file or a pipe gets whole cells.
PIPE_COLUMNS = 240

Row = Mapping[str, object]


def show_table(table: Table) -> None:
    """Print to standard output; not cut to 80 columns, and without frames, when nobody looks at a terminal."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    table.box = None
    table.pad_edge = False
    wide = Console(width=PIPE_COLUMNS)
    with wide.capture() as captured:
        wide.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_rows(rows: Sequence[Row], *, columns: Mapping[str, str], as_json: bool, empty: str) -> None:
    """`columns` gives a key of the rows its heading. JSON has every key of the rows, in one array."""
    if as_json:
        typer.echo(json.dumps(rows))
    elif not rows:
        typer.echo(empty, err=True)
    else:
        table = Table(*columns.values())
        for row in rows:
            table.add_row(*(cell_text(row[key]) for key in columns))
        show_table(table)


def cell_text(value: object) -> str:
    """What a person reads: nothing for no, a question mark for unknown."""
    match value:
        case None:
            return "?"
        case bool():
            return "yes" if value else ""
        case _:
            return str(value)


def kafka_id(value: uuid.UUID) -> str:
    """An id as Kafka's tools write it: base64 for URLs."""
    return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")


def address_of(text: str) -> Address:
    """HOST:PORT. Raises a usage error."""
    try:
        parsed = parse_address(text)
    except ValueRefused as refusal:
        raise typer.BadParameter(f"{text} is no address: {refusal}") from refusal
    return Address(host=parsed.host or "localhost", port=parsed.port)


def pairs_of(texts: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE, each key once. Raises a usage error."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{option} {text} has no value; write {option} KEY=VALUE")
        if key in pairs:
            raise typer.BadParameter(f"{option} {key} is given twice; keep one")
        pairs[key] = value
    return pairs
