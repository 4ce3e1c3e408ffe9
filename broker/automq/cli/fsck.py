"""`automq fsck`: looks at everything a cluster has in its store, and changes nothing."""

from typing import Annotated

import typer

from automq.cli.options import CredentialsOption


def fsck(
    uri: Annotated[str, typer.Argument(metavar="STORE", help="s3://BUCKET[/PREFIX][?...] or file:///FOLDER.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte instead of names and sizes alone.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    credentials_dir: CredentialsOption = None,
) -> int:
    """Say what of a cluster's data is damaged or missing, whom that concerns, and what to do. Changes nothing."""
    import json

    from rich.console import Console

    from automq.cli.fsck_output import show_report
    from automq.server.lifecycle.states import ExitCode
    from automq.server.tools.commands import examine_store

    with Console(stderr=True).status(f"examining {uri}"):
        report = examine_store(uri, credentials_dir, deep=deep)
    if json_:
        typer.echo(json.dumps(report.to_dict()))
    else:
        show_report(report)
    return ExitCode.DAMAGED if report.is_damaged else ExitCode.STOPPED
