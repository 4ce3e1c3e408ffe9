"""`automq brokers`: the brokers of a cluster, their state and what they lead; works with any Kafka."""

from automq.cli.options import BootstrapOption, JsonOption


def brokers(bootstrap: BootstrapOption = "localhost:9092", json_: JsonOption = False) -> None:
    """Show the brokers of a cluster: state, zone, partitions led, bytes; changes nothing."""
    from automq.cli.client import KafkaClient
    from automq.cli.cluster_views import broker_rows
    from automq.cli.output import address_of, show_rows

    with KafkaClient(address_of(bootstrap)) as client:
        rows = broker_rows(client)
    columns = {key: key for key in ("broker", "address", "rack", "state", "controller", "leaders", "replicas", "bytes")}
    show_rows(rows, columns=columns, as_json=json_, empty="there are no brokers")
