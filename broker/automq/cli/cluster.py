"""`automq cluster`: the cluster as a whole, and the partitions that are being moved; works with any Kafka."""

import json

import typer

from automq.cli.options import BootstrapOption, JsonOption


def cluster(bootstrap: BootstrapOption = "localhost:9092", json_: JsonOption = False) -> None:
    """Show a cluster's controller and epoch, its metadata's position, and partitions that move; changes nothing."""
    from automq.cli.client import KafkaClient
    from automq.cli.cluster_views import cluster_row, move_rows
    from automq.cli.output import address_of, show_rows

    with KafkaClient(address_of(bootstrap)) as client:
        row, moves = cluster_row(client), move_rows(client)
    if json_:
        typer.echo(json.dumps({**row, "moves": moves}))
        return
    facts = [{"what": key.replace("_", " "), "value": value} for key, value in row.items()]
    show_rows(facts, columns={"what": "what", "value": "value"}, as_json=False, empty="")
    if moves:
        columns = {key: key for key in ("topic", "partition", "replicas", "adding", "removing")}
        show_rows(moves, columns=columns, as_json=False, empty="")
