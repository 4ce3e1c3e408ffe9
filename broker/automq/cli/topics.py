"""`automq topics`: the topics of a cluster, or the partitions of some."""

from typing import Annotated

import typer

from automq.cli.options import BootstrapOption


def topics(
    names: Annotated[list[str] | None, typer.Argument(metavar="[TOPIC]...", help="Topics to show whole.")] = None,
    bootstrap: BootstrapOption = "localhost:9092",
    internal: Annotated[bool, typer.Option("--internal", help="Internal topics too.")] = False,
) -> int:
    """Show topics, or with names their partitions and offsets; changes nothing."""
    from rich.table import Table

    from automq.cli.client import KafkaClient, RequestFailed
    from automq.cli.output import address_of, failing_with_request, show_table
    from automq.cli.views import partitions_of, topic_names

    with failing_with_request(), KafkaClient(address_of(bootstrap)) as client:
        found = topic_names(client, internal=internal or bool(names))
        if not names:
            table = Table("topic", "id", "partitions", "replication factor", "internal")
            for topic in found:
                replicas = len(topic.partitions[0].replica_nodes) if topic.partitions else 0
                table.add_row(
                    topic.name, str(topic.topic_id), str(len(topic.partitions)), str(replicas), _yes(topic.is_internal)
                )
            show_table(table)
            return 0
        by_name = {topic.name: topic for topic in found}
        table = Table("topic", "partition", "leader", "epoch", "earliest", "latest", "offsets")
        for name in names:
            if name not in by_name:
                raise RequestFailed(f"there is no topic {name}; `automq topics` lists all")
            for view in partitions_of(client, by_name[name]):
                between = None if view.earliest is None or view.latest is None else view.latest - view.earliest
                cells = (view.partition, view.leader, view.leader_epoch, view.earliest, view.latest, between)
                table.add_row(name, *("?" if cell is None else str(cell) for cell in cells))
        show_table(table)
    return 0


def _yes(value: bool) -> str:
    return "yes" if value else ""
