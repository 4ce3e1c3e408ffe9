"""`automq topics`: the topics of a cluster, and what changes them; works with any Kafka."""

from typing import Annotated

import typer

from automq.cli.options import BootstrapOption, JsonOption
from automq.cli.view_group import VIEW, ViewGroup

app = typer.Typer(
    cls=ViewGroup,
    help="Show topics, or with names their partitions and offsets; create, delete and configure them.",
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(metavar="TOPIC")]


@app.command(VIEW, short_help="Show topics; meant when no command is named.")
def show(
    names: Annotated[list[str] | None, typer.Argument(metavar="[TOPIC]...", help="Topics to show whole.")] = None,
    bootstrap: BootstrapOption = "localhost:9092",
    internal: Annotated[bool, typer.Option("--internal", help="Internal topics too.")] = False,
    json_: JsonOption = False,
) -> None:
    """Show topics, or with names their partitions and offsets; changes nothing."""
    from automq.cli.client import KafkaClient, RequestFailed
    from automq.cli.output import address_of, show_rows
    from automq.cli.views import partition_rows, topic_names, topic_row

    with KafkaClient(address_of(bootstrap)) as client:
        found = topic_names(client, internal=internal or bool(names))
        if not names:
            columns = {"topic": "topic", "id": "id", "partitions": "partitions"}
            columns |= {"replication_factor": "replication factor", "internal": "internal"}
            rows = [topic_row(topic) for topic in found]
            show_rows(
                rows, columns=columns, as_json=json_, empty="there are no topics; `automq topics create` makes one"
            )
            return
        by_name = {topic.name: topic for topic in found}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise RequestFailed(f"there is no topic {missing[0]}; `automq topics` lists all")
        rows = [row for name in names for row in partition_rows(client, by_name[name])]
        columns = {"topic": "topic", "partition": "partition", "leader": "leader", "leader_epoch": "epoch"}
        columns |= {"earliest": "earliest", "latest": "latest", "records_max": "records (at most)"}
        show_rows(rows, columns=columns, as_json=json_, empty="no partitions")


@app.command(short_help="Create topics.")
def create(
    names: Annotated[list[str], typer.Argument(metavar="TOPIC...")],
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", min=1, help="Default: the broker's num.partitions.")
    ] = None,
    replication_factor: Annotated[
        int | None, typer.Option("--replication-factor", "-r", min=1, help="Default: the broker's.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE", help="A topic config; repeatable.")
    ] = None,
    if_not_exists: Annotated[bool, typer.Option("--if-not-exists", help="A topic that exists is no error.")] = False,
    bootstrap: BootstrapOption = "localhost:9092",
) -> None:
    """Create topics."""
    from automq.cli.admin import create_topics
    from automq.cli.client import KafkaClient
    from automq.cli.output import address_of, pairs_of

    configs = pairs_of(config or [], "--config")
    with KafkaClient(address_of(bootstrap)) as client:
        created = create_topics(
            client,
            names,
            partitions=partitions,
            replication_factor=replication_factor,
            configs=configs,
            if_not_exists=if_not_exists,
        )
    for name in names:
        typer.echo(f"{name} created" if name in created else f"{name} exists already")


@app.command(short_help="Delete topics with their records.")
def delete(
    names: Annotated[list[str], typer.Argument(metavar="TOPIC...")],
    if_exists: Annotated[bool, typer.Option("--if-exists", help="A topic that does not exist is no error.")] = False,
    bootstrap: BootstrapOption = "localhost:9092",
) -> None:
    """Delete topics with their records; there is no way back."""
    from automq.cli.admin import delete_topics
    from automq.cli.client import KafkaClient
    from automq.cli.output import address_of

    with KafkaClient(address_of(bootstrap)) as client:
        deleted = delete_topics(client, names, if_exists=if_exists)
    for name in names:
        typer.echo(f"{name} deleted" if name in deleted else f"{name} does not exist")


@app.command(short_help="Show or change the configs of a topic.")
def config(
    name: NameArgument,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config; repeatable.")
    ] = None,
    delete_: Annotated[
        list[str] | None, typer.Option("--delete", metavar="KEY", help="Return to the default; repeatable.")
    ] = None,
    bootstrap: BootstrapOption = "localhost:9092",
    json_: JsonOption = False,
) -> None:
    """Show the configs of a topic; with --set or --delete change them first."""
    from automq.cli.admin import alter_topic, config_rows
    from automq.cli.client import KafkaClient
    from automq.cli.output import address_of, pairs_of, show_rows

    changes: dict[str, str | None] = {**pairs_of(set_ or [], "--set"), **dict.fromkeys(delete_ or [])}
    with KafkaClient(address_of(bootstrap)) as client:
        if changes:
            alter_topic(client, name, changes)
        rows = config_rows(client, name)
    columns = {"config": "config", "value": "value", "source": "source"}
    show_rows(rows, columns=columns, as_json=json_, empty="no configs")
