"""`automq dump`: what is in an object, a log slot, a snapshot; and which keys a store has."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from automq.cli.failures import CommandFailed
from automq.cli.options import CredentialsOption, JsonOption

if TYPE_CHECKING:
    from automq.server.tools.inspection import KeyLine


def dump(
    what: Annotated[str, typer.Argument(metavar="FILE|STORE", help="A file, or a store that KEY lies in.")],
    key: Annotated[
        str | None, typer.Argument(help="The object's key, relative to the store's prefix; without one, its keys.")
    ] = None,
    credentials_dir: CredentialsOption = None,
    json_: JsonOption = False,
) -> int:
    """Show what is in an object, a log slot or a snapshot, its checksums checked; of a store alone, list the keys."""
    import json

    from rich.table import Table

    from automq.cli.output import show_table
    from automq.server.tools.commands import NothingToShow, list_keys, show

    if key is None and "://" in what:
        list_keys(what, credentials_dir, _show_page_as_json if json_ else _show_page)
        return 0
    try:
        found = show(what, key, credentials_dir)
    except NothingToShow as nothing:
        raise CommandFailed(str(nothing)) from nothing
    if json_:
        cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
        typer.echo(json.dumps({"what": found.title, **found.facts, "rows": cells}))
        return 0
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


def _show_page(lines: "Sequence[KeyLine]") -> None:
    for line in lines:
        # Strangers' names may hold anything.
        name = line.key if line.key.isprintable() else repr(line.key)
        typer.echo(f"{line.size:>12}  {line.kind:<14}  {name}")


def _show_page_as_json(lines: "Sequence[KeyLine]") -> None:
    """One object a line: a store may have more keys than fit in memory."""
    import json

    for line in lines:
        typer.echo(json.dumps({"key": line.key, "kind": line.kind, "size": line.size}))
