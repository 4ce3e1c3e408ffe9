"""What the brokers of a laptop's cluster are told."""

import pathlib

from automq.server.local import LocalOptions
from automq.server.local_cluster import broker_arguments


def told(arguments: list[str], name: str) -> list[str]:
    """The values of an option."""
    return [value for option, value in zip(arguments, arguments[1:], strict=False) if option == name]


def options(**changed: object) -> LocalOptions:
    values: dict[str, object] = {
        "data_folder": pathlib.Path("/data"),
        "port": 9092,
        "bind": "127.0.0.1",
        "advertised": None,
        "store": None,
        "wal": "s3",
    }
    return LocalOptions(**{**values, **changed})  # type: ignore[arg-type]


def test_brokers_share_a_store_and_differ_in_id_and_port() -> None:
    first, second, third = (list(arguments) for arguments in broker_arguments(options(), 3))

    assert [told(each, "--store") for each in (first, second, third)] == [["file:///data/store"]] * 3
    assert [told(each, "--port") for each in (first, second, third)] == [["9092"], ["9093"], ["9094"]]
    assert [told(each, "--set")[0] for each in (first, second, third)] == ["node.id=1", "node.id=2", "node.id=3"]


def test_free_ports_stay_free_ones_and_what_was_said_is_handed_on() -> None:
    changed = options(port=0, advertised="laptop", store="memory:", flags=["automq.memory.bytes=99", "a=b"])
    (_first, second) = (list(arguments) for arguments in broker_arguments(changed, 2))

    assert told(second, "--port") == ["0"]
    assert told(second, "--advertised") == ["laptop"]
    assert told(second, "--set") == ["automq.memory.bytes=99", "a=b", "node.id=2", "automq.http.address=127.0.0.1:0"]
