"""How commands show what they found, and how those fail that ask a broker."""

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.table import Table

from automq.cli.client import RequestFailed
from automq.server.lifecycle import ExitCode
from automq.server.setting import Address, ValueRefused, parse_address

# Wide enough that a file or a pipe gets whole cells.
PIPE_COLUMNS = 240


def show_table(table: Table) -> None:
    """Print to standard output; not cut to 80 columns when nobody looks at a terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_COLUMNS)).print(table)


def address_of(text: str) -> Address:
    """HOST:PORT. Raises a usage error."""
    try:
        parsed = parse_address(text)
    except ValueRefused as refusal:
        raise typer.BadParameter(f"{text} is no address: {refusal}") from refusal
    return Address(host=parsed.host or "localhost", port=parsed.port)


@contextlib.contextmanager
def failing_with_request() -> Iterator[None]:
    """End with exit code 1 and one line when a broker cannot be asked."""
    try:
        yield
    except RequestFailed as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(int(ExitCode.BUG)) from failure
