"""Which rows of clusters there are, by the name of their group."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.bench.beside_kafka import beside_kafka
from tests.bench.cluster import controllers, drains, idle, joins, kills, moves
from tests.bench.compaction import in_memory
from tests.bench.report import Row


def groups(folder: pathlib.Path, *, quick: bool) -> dict[str, Callable[[], Iterator[Row]]]:
    """Every group of rows by name."""
    trials = 1 if quick else 3
    one = {"brokers": 3, "dead": 1, "partitions": 300, "megabytes": 2 if quick else 200}

    def kill(batch_bytes: int, times: int, limits_s: Mapping[str, float]) -> Callable[[], Iterator[Row]]:
        return lambda: kills(folder, trials=times, batch_bytes=batch_bytes, limits_s=limits_s, **one)  # type: ignore[arg-type]

    return {
        "moves": lambda: moves(folder, trials=3 if quick else 20),
        "kill": kill(16_384, trials, {"p50": 6, "most": 8}),
        "small": kill(1_024, 1, {}),
        "controller": lambda: controllers(folder, trials=trials),
        "drain": lambda: drains(folder, partitions=100 if quick else 1_000, limit_s=10),
        "idle": lambda: idle(folder, seconds=5 if quick else 60),
        "join": lambda: joins(folder),
        "three": lambda: kills(
            folder, trials=1, dead=3, brokers=6, partitions=20, megabytes=20, batch_bytes=16_384, limits_s={"most": 15}
        ),
        "kafka": lambda: beside_kafka(folder, trials=1 if quick else 3),
        "drain5000": lambda: drains(folder, partitions=200 if quick else 5_000, limit_s=30),
    }


def rows(folder: pathlib.Path, names: Sequence[str], *, quick: bool) -> Iterator[Row]:
    """Those of the groups that are named, or of all."""
    with in_memory(folder) as place:
        found = groups(place, quick=quick)
        for name in names or found:
            yield from found[name]()
