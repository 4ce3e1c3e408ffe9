"""The system's calls: the two that are more than one call."""

import errno
import pathlib

import pytest

from automq.s3stream.store import os_calls
from automq.s3stream.store.os_calls import OsCalls


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
