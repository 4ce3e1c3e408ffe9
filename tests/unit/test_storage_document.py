"""The table of damage in docs/storage.md names tests that exist."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def test_every_row_of_the_table_of_damage_is_shown_by_a_test() -> None:
    document = (ROOT / "docs/storage.md").read_text()
    table = document.partition("## Damage, kind by kind")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| damage", "|---"))]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 10
    assert all(named)
    assert [name for names in named for name in names if f"def {name}(" not in tests] == []
