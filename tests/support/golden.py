"""Golden files: bytes and texts that may not change by accident.

`pytest --rewrite-golden` writes them anew; commit only what you understand.
"""

import pathlib
import textwrap

GOLDEN_FOLDER = pathlib.Path(__file__).parents[1] / "golden"

rewrite = False


def check_text(name: str, actual: str) -> None:
    """`actual` equals the file tests/golden/`name`."""
    path = GOLDEN_FOLDER / name
    if rewrite:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(actual)
    assert path.exists(), f"{path} is missing: run pytest --rewrite-golden on this test"
    assert path.read_text() == actual


def check_bytes(name: str, actual: bytes) -> None:
    """`actual` equals the bytes written as hex lines in tests/golden/`name`."""
    check_text(name, "\n".join(textwrap.wrap(bytes(actual).hex(), 96)) + "\n")
