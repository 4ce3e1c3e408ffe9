"""`automq balance`: what brokers carry, what would move, what has moved and why; pauses it and lets it go on."""

import json
from typing import Annotated

import typer

from automq.cli.options import BootstrapOption, JsonOption

BROKER_COLUMNS = ("broker", "rack", "share", "partitions", "MB/s", "loop", "not uploaded", "takes")
MOVE_COLUMNS = ("when", "partition", "from", "to", "state", "reason", "expected", "undo")


def balance(
    bootstrap: BootstrapOption = "localhost:9092",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be moved now.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show what was moved, why, and how to undo it.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Move nothing until --resume, whoever is controller.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on.")] = False,
    moves: Annotated[int, typer.Option("--moves", min=1, max=1000, help="The newest moves that --explain shows.")] = 50,
    json_: JsonOption = False,
) -> None:
    """Show what each broker carries relative to the mean, and whether that is evened out; needs brokers of automq."""
    from automq.cli.balancer_views import balancer_of, broker_rows, move_rows, set_paused, state_of
    from automq.cli.client import KafkaClient
    from automq.cli.failures import CommandFailed
    from automq.cli.output import address_of, show_rows

    if sum((dry_run, explain, pause, resume)) > 1:
        raise CommandFailed("--dry-run, --explain, --pause and --resume exclude one another")
    with KafkaClient(address_of(bootstrap)) as client:
        view = balancer_of(client, moves_max=moves if explain else 0)
        if pause or resume:
            set_paused(client, paused=pause)
            view = balancer_of(client, moves_max=0)
    if json_:
        typer.echo(json.dumps(view))
        return
    if dry_run or explain:
        rows = move_rows(view["planned"] if dry_run else view["moves"])
        columns = {key: key for key in MOVE_COLUMNS if explain or key not in ("when", "state")}
        empty = "nothing would be moved" if dry_run else "nothing was moved"
        show_rows(rows, columns=columns, as_json=False, empty=empty)
        return
    facts = [{"what": key, "value": value} for key, value in state_of(view).items()]
    show_rows(facts, columns={"what": "what", "value": "value"}, as_json=False, empty="")
    show_rows(broker_rows(view), columns={key: key for key in BROKER_COLUMNS}, as_json=False, empty="")
