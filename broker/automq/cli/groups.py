"""`automq groups`: the consumer groups of a cluster, or the offsets of some."""

from typing import Annotated

import typer

from automq.cli.options import BootstrapOption


def groups(
    names: Annotated[list[str] | None, typer.Argument(metavar="[GROUP]...", help="Groups to show whole.")] = None,
    bootstrap: BootstrapOption = "localhost:9092",
) -> int:
    """Show consumer groups, or with names their committed offsets and lag; changes nothing."""
    from rich.table import Table

    from automq.cli.client import KafkaClient, RequestFailed
    from automq.cli.output import address_of, failing_with_request, show_table
    from automq.cli.views import commits_of, list_groups

    with failing_with_request(), KafkaClient(address_of(bootstrap)) as client:
        found = list_groups(client)
        if not names:
            table = Table("group", "state", "protocol", "members", "coordinator")
            for node, group in found:
                protocol = "/".join(filter(None, (group.protocol_type, group.protocol_data)))
                table.add_row(group.group_id, group.group_state, protocol, str(len(group.members)), str(node))
            show_table(table)
            return 0
        by_name = {group.group_id: (node, group) for node, group in found}
        table = Table("group", "topic", "partition", "committed", "latest", "lag", "member")
        for name in names:
            if name not in by_name:
                raise RequestFailed(f"there is no group {name}; `automq groups` lists all")
            for view in commits_of(client, *by_name[name]):
                cells = (view.partition, view.committed, view.latest, view.lag)
                table.add_row(name, view.topic, *("?" if cell is None else str(cell) for cell in cells), view.member)
        show_table(table)
    return 0
