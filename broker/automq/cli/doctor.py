"""`automq doctor`: whether a store can be trusted, check by check."""

from typing import Annotated

import typer

from automq.cli.options import CredentialsOption


def doctor(
    uri: Annotated[str, typer.Argument(metavar="STORE", help="s3://BUCKET[/PREFIX][?...] or file:///FOLDER.")],
    json_: Annotated[bool, typer.Option("--json", help="One line of JSON instead of tables.")] = False,
    credentials_dir: CredentialsOption = None,
) -> int:
    """Race writers against a store and say whether it can be trusted."""
    from rich.console import Console

    from automq.cli.doctor_output import show_report
    from automq.server.lifecycle.states import Reason, Refused
    from automq.server.tools.commands import examine

    with Console(stderr=True).status(f"examining {uri}"):
        report = examine(uri, credentials_dir)
    if json_:
        typer.echo(report.to_json())
    else:
        show_report(report)
    if not report.suitable:
        failed = ", ".join(check.name for check in report.checks if check.required and check.outcome != "passed")
        raise Refused(Reason.STORE_UNSUITABLE, f"{uri} fails what safety rests on: {failed}; use another store")
    return 0
