"""A folder of one's own, and the settings of a laptop's broker."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from automq.server.config.settings import InvalidSettings
from automq.server.local import LocalOptions, free_port_or, local_settings, locked_folder


def options(folder: pathlib.Path, **changed: object) -> LocalOptions:
    values: dict[str, object] = {
        "data_folder": folder,
        "port": 9092,
        "bind": "127.0.0.1",
        "advertised": None,
        "store": None,
        "wal": "s3",
    }
    return LocalOptions(**{**values, **changed})  # type: ignore[arg-type]


def test_store_lies_in_the_folder(tmp_path: pathlib.Path) -> None:
    settings = local_settings(options(tmp_path), environment={})

    assert settings.cluster.storage_uri == f"file://{tmp_path}/store"
    assert [str(listener.address) for listener in settings.advertised()] == ["127.0.0.1:9092"]


def test_set_wins_over_options(tmp_path: pathlib.Path) -> None:
    settings = local_settings(options(tmp_path, flags=["node.id=5", "automq.wal.interval.ms=7"]), environment={})

    assert (settings.node.node_id, settings.engine.wal_interval_ms) == (5, 7)


@pytest.mark.parametrize("kind", ["block", "file"])
def test_wal_kinds_that_do_not_exist_are_refused_by_name(tmp_path: pathlib.Path, kind: str) -> None:
    with pytest.raises(InvalidSettings, match=f"the {kind} write-ahead log does not exist yet"):
        local_settings(options(tmp_path, wal=kind), environment={})


def test_advertised_host_is_what_clients_are_told(tmp_path: pathlib.Path) -> None:
    settings = local_settings(options(tmp_path, bind="0.0.0.0", advertised="laptop.local"), environment={})

    assert [str(listener.address) for listener in settings.advertised()] == ["laptop.local:9092"]


def test_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port_or("127.0.0.1", port) == 0


def test_folder_can_be_locked_again_after_use(tmp_path: pathlib.Path) -> None:
    for _ in range(2):
        with locked_folder(tmp_path / "data"):
            assert (tmp_path / "data/lock").read_text() == f"{os.getpid()}\n"


def test_folder_in_use_names_the_other_process(tmp_path: pathlib.Path) -> None:
    hold = (
        "import pathlib, sys\nfrom automq.server.local import locked_folder\n"
        f"with locked_folder(pathlib.Path({str(tmp_path)!r})):\n  print('locked', flush=True)\n  sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with (
            pytest.raises(InvalidSettings, match=f"in use by process {other.pid}"),
            locked_folder(tmp_path),
        ):
            pass
        other.communicate()
