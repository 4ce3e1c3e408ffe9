"""Temporary files and spares: best fits first, bounded, and swept only when their owner is dead."""

import os
import pathlib
from collections.abc import Iterator

import pytest

from automq.runtime.entropy import SeededEntropy
from automq.s3stream.store import temporary
from automq.s3stream.store.os_calls import OsCalls
from automq.s3stream.store.temporary import TemporaryFiles


def files_of(root: pathlib.Path, seed: int = 1) -> TemporaryFiles:
    return TemporaryFiles(str(root), calls=OsCalls(), entropy=SeededEntropy(seed))


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Iterator[TemporaryFiles]:
    files = files_of(tmp_path)
    files.open()
    yield files
    files.close()


def keep(files: TemporaryFiles, *sizes: int) -> dict[str, int]:
    spares = {files.new_name(): size for size in sizes}
    for path in spares:
        pathlib.Path(path).touch()
    files.keep(spares.items())
    return spares


def test_without_spares_a_file_is_new(files: TemporaryFiles) -> None:
    first, second = files.take(100), files.take(100)

    assert first.size == second.size == 0
    assert first.path != second.path


@pytest.mark.parametrize(("size", "taken"), [(4096, 4096), (5000, 8192), (8192, 8192), (20_000, 16_384), (1, 4096)])
def test_spare_of_the_length_is_taken_or_a_longer_one_or_a_shorter_one(
    files: TemporaryFiles, size: int, taken: int
) -> None:
    keep(files, 16_384, 4096, 8192)

    assert files.take(size).size == taken


def test_each_spare_is_taken_once(files: TemporaryFiles) -> None:
    spares = keep(files, 4096, 4096, 8192)

    taken = [files.take(4096) for _ in range(4)]

    assert {spare.path for spare in taken[:3]} == set(spares)
    assert taken[3].size == 0


def test_spares_are_bounded_in_number_and_bytes(files: TemporaryFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "SPARE_FILES_MAX", 3)
    monkeypatch.setattr(temporary, "SPARE_BYTES_MAX", 10_000)
    keep(files, 1000)

    keeper = files.keeper()

    assert keeper(8000) is not None
    assert keeper(8000) is None
    assert keeper(1000) is not None
    assert keeper(1) is None


def test_empty_and_large_files_are_not_kept(files: TemporaryFiles) -> None:
    keeper = files.keeper()

    assert keeper(0) is None
    assert keeper(temporary.SPARE_FILE_BYTES_MAX + 1) is None


def test_spares_can_be_given_up(files: TemporaryFiles) -> None:
    spares = keep(files, 4096, 8192)

    assert set(files.take_spares()) == set(spares)
    assert files.take(4096).size == 0


def test_close_removes_the_folder(tmp_path: pathlib.Path) -> None:
    files = files_of(tmp_path)
    files.open()
    keep(files, 4096)

    files.close()
    files.close()

    assert os.listdir(tmp_path / ".tmp") == []
    assert not files.is_open


def test_folder_of_a_living_process_is_let_alone(tmp_path: pathlib.Path, files: TemporaryFiles) -> None:
    other = files_of(tmp_path, seed=2)
    spares = keep(files, 4096)

    other.open()

    assert all(os.path.exists(path) for path in spares)
    assert other.new_name() != files.new_name()
    other.close()


def test_folder_whose_lock_was_let_go_is_swept(tmp_path: pathlib.Path, files: TemporaryFiles) -> None:
    spares = keep(files, 4096)
    files.forget()
    other = files_of(tmp_path, seed=2)

    other.open()

    assert not any(os.path.exists(path) for path in spares)
    other.close()


def test_what_is_no_folder_is_not_swept(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "note").write_text("from a person")
    files = files_of(tmp_path)

    files.open()

    assert (tmp_path / ".tmp" / "note").exists()
    files.close()


def test_a_folder_that_goes_while_deletes_run_keeps_nothing(files: TemporaryFiles) -> None:
    keeper = files.keeper()

    files.forget()

    assert keeper(1000) is None
