"""`automq repair`: records what a person gives up. The only command that ends damage."""

import getpass
import socket
from typing import Annotated

import typer

from automq.cli.failures import CommandFailed
from automq.cli.options import CredentialsOption


def repair(
    uri: Annotated[str, typer.Argument(metavar="STORE", help="s3://BUCKET[/PREFIX][?...] or file:///FOLDER.")],
    lose: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC-PARTITION:START-END", help="Offsets that are lost, the end excluded; repeatable."),
    ] = None,
    lose_slot: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A slot of a write-ahead log that is lost; repeatable.")
    ] = None,
    end_log: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="A slot at which its write-ahead log ends: it and what follows is lost."),
    ] = None,
    lift: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A damaged key that is mended by now; repeatable.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who decides; recorded. Default: user@host.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be recorded.")] = False,
    credentials_dir: CredentialsOption = None,
) -> int:
    """Give up, by record, what is named; refuse while a broker runs. Start with `automq fsck`."""
    from automq.server.tools.commands import repair_store
    from automq.server.tools.repair import Named, RepairRefused, parse_lost_offsets, parse_slot

    try:
        named = Named(
            offsets=[parse_lost_offsets(text) for text in lose or ()],
            slots=[parse_slot(text) for text in lose_slot or ()],
            ends=[parse_slot(text) for text in end_log or ()],
            repaired=lift or (),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if named.is_empty:
        raise typer.BadParameter("name what is lost or mended: --lose, --lose-slot, --end-log, --lift")
    who = by or f"{getpass.getuser()}@{socket.gethostname()}"
    try:
        lines = repair_store(uri, credentials_dir, named=named, by=who, dry_run=dry_run)
    except RepairRefused as refused:
        raise CommandFailed(f"nothing was recorded: {refused}") from refused
    for line in lines or ["nothing to record: it is recorded already"]:
        typer.echo(f"would record: {line}" if dry_run else f"recorded: {line}")
    return 0
