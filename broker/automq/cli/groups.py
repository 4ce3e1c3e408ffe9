"""`automq groups`: the consumer groups of a cluster, their offsets, and moving those; works with any Kafka."""

import datetime
from typing import Annotated

import typer

from automq.cli.options import BootstrapOption, JsonOption
from automq.cli.view_group import VIEW, ViewGroup

app = typer.Typer(
    cls=ViewGroup,
    help="Show consumer groups, or with names their committed offsets and lag; reset offsets.",
    rich_markup_mode=None,
)


@app.command(VIEW, short_help="Show groups; meant when no command is named.")
def show(
    names: Annotated[list[str] | None, typer.Argument(metavar="[GROUP]...", help="Groups to show whole.")] = None,
    bootstrap: BootstrapOption = "localhost:9092",
    json_: JsonOption = False,
) -> None:
    """Show consumer groups, or with names their committed offsets and lag; changes nothing."""
    from automq.cli.client import KafkaClient, RequestFailed
    from automq.cli.output import address_of, show_rows
    from automq.cli.views import commit_rows, group_row, list_groups

    with KafkaClient(address_of(bootstrap)) as client:
        found = list_groups(client)
        if not names:
            columns = {key: key for key in ("group", "state", "protocol", "members", "coordinator")}
            rows = [group_row(node, group) for node, group in found]
            show_rows(rows, columns=columns, as_json=json_, empty="there are no groups")
            return
        by_name = {group.group_id: (node, group) for node, group in found}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise RequestFailed(f"there is no group {missing[0]}; `automq groups` lists all")
        rows = [row for name in names for row in commit_rows(client, *by_name[name])]
        columns = {key: key for key in ("group", "topic", "partition", "committed", "latest", "lag", "member")}
        show_rows(rows, columns=columns, as_json=json_, empty="nothing is committed")


@app.command(short_help="Move the committed offsets of a group.")
def reset(
    group: Annotated[str, typer.Argument(metavar="GROUP")],
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", metavar="TOPIC[:PARTITION]", help="Default: what is committed; repeatable."),
    ] = None,
    to_earliest: Annotated[bool, typer.Option("--to-earliest", help="To the start of the log.")] = False,
    to_latest: Annotated[bool, typer.Option("--to-latest", help="To its end.")] = False,
    to_offset: Annotated[int | None, typer.Option("--to-offset", min=0, help="To this offset.")] = None,
    to_time: Annotated[
        datetime.datetime | None,
        typer.Option("--to-time", formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"], help="To the first record since, UTC."),
    ] = None,
    shift_by: Annotated[
        int | None, typer.Option("--shift-by", help="By so many records, backwards if below 0.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be committed.")] = False,
    bootstrap: BootstrapOption = "localhost:9092",
    json_: JsonOption = False,
) -> None:
    """Move the committed offsets of a group that has no members now. An offset beyond the log becomes its end."""
    from automq.cli.client import KafkaClient
    from automq.cli.output import address_of, show_rows
    from automq.cli.reset import Target, reset_offsets

    asked = [to_earliest, to_latest, to_offset is not None, to_time is not None, shift_by is not None]
    if sum(asked) != 1:
        raise typer.BadParameter("name one of --to-earliest, --to-latest, --to-offset, --to-time, --shift-by")
    timestamp_ms = None
    if to_time is not None:
        timestamp_ms = int(to_time.replace(tzinfo=datetime.UTC).timestamp() * 1000)
    target = Target(
        is_earliest=to_earliest, is_latest=to_latest, offset=to_offset, timestamp_ms=timestamp_ms, shift=shift_by
    )
    with KafkaClient(address_of(bootstrap)) as client:
        rows = reset_offsets(client, group, topics=topic or [], target=target, dry_run=dry_run)
    columns = {key: key for key in ("topic", "partition", "before", "after")}
    show_rows(rows, columns=columns, as_json=json_, empty="nothing is committed; name a --topic")
