"""The system's calls: the two that are more than one call."""

import errno
import os
import pathlib

import pytest

from automq.s3stream.store import os_calls
from automq.s3stream.store.os_calls import OsCalls


def test_link_into_a_folder_that_was_replaced_is_not_found(tmp_path: pathlib.Path) -> None:
    calls = OsCalls()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    fd = os.open(tmp_path / "folder", os.O_RDONLY)
    calls.link(f"{tmp_path}/file", f"{tmp_path}/folder/first", folder_fd=fd)
    (tmp_path / "folder" / "first").unlink()
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").mkdir()

    with pytest.raises(FileNotFoundError):
        calls.link(f"{tmp_path}/file", f"{tmp_path}/folder/second", folder_fd=fd)

    os.close(fd)


def test_systems_without_a_flag_say_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_calls, "_DIRECT", 0)
    monkeypatch.setattr(os_calls, "_DSYNC", 0)

    with pytest.raises(OSError, match="no O_DIRECT") as direct:
        OsCalls().open_new(f"{tmp_path}/file", direct=True)
    with pytest.raises(OSError, match="no RWF_DSYNC") as synced:
        OsCalls().write_synced(0, [b"x"], 0)

    assert (direct.value.errno, synced.value.errno) == (errno.EINVAL, errno.EOPNOTSUPP)


def test_mac_disks_are_told_to_really_write(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(os_calls, "_FULL_SYNC", 51)
    monkeypatch.setattr(os_calls.fcntl, "fcntl", lambda fd, command: told.append(command))
    fd = OsCalls().open_new(f"{tmp_path}/file", direct=False)

    OsCalls().sync_file(fd)
    OsCalls().sync_folder(str(tmp_path))

    OsCalls().close(fd)
    assert told == [51, 51]
