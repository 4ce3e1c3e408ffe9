"""How a broker for tests is started in a process; that it serves is tried in `tests/compat/test_install.py`."""

import pathlib

import pytest

from automq.testing.process import environment_of

FOLDER = pathlib.Path("cache/bytecode")


def test_bytecode_is_kept_in_the_folder_where_it_may_be_kept_nowhere_else() -> None:
    parent = {"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    assert environment_of(parent, FOLDER) == {"PATH": "/bin", "PYTHONPYCACHEPREFIX": str(FOLDER)}
    assert parent == {"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize(
    ("parent", "folder"),
    [
        ({"PATH": "/bin"}, FOLDER),
        ({"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": ""}, None),
        ({"PYTHONDONTWRITEBYTECODE": "1"}, None),
    ],
    ids=["may write beside the sources", "empty", "no folder"],
)
def test_environment_is_the_parents_otherwise(parent: dict[str, str], folder: pathlib.Path | None) -> None:
    assert environment_of(parent, folder) == parent


def test_a_place_that_the_user_chose_for_bytecode_stays() -> None:
    parent = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "chosen"}
    assert environment_of(parent, FOLDER) == {"PYTHONPYCACHEPREFIX": "chosen"}
