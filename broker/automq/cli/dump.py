"""`automq dump`: what is in an object, a log slot, a snapshot."""

from typing import Annotated

import typer

from automq.cli.options import CredentialsOption


def dump(
    what: Annotated[str, typer.Argument(metavar="FILE|STORE", help="A file, or a store that KEY lies in.")],
    key: Annotated[str | None, typer.Argument(help="The object's key, relative to the store's prefix.")] = None,
    credentials_dir: CredentialsOption = None,
) -> int:
    """Show what is in an object, a log slot or a snapshot, its checksums checked."""
    from rich.table import Table

    from automq.cli.output import show_table
    from automq.server.tools import NothingToShow, show

    try:
        found = show(what, key, credentials_dir)
    except NothingToShow as nothing:
        typer.echo(str(nothing), err=True)
        raise typer.Exit(1) from nothing
    facts = Table("", "", title=found.title, title_justify="left", show_header=False)
    for name, value in found.facts.items():
        facts.add_row(name, value)
    show_table(facts)
    if found.columns:
        rows = Table(*found.columns)
        for row in found.rows:
            rows.add_row(*row)
        show_table(rows)
    return 0
