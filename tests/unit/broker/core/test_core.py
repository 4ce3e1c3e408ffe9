"""Which functions run: the compiled ones where they are, the Python ones where they are not, or are not wanted."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

from automq import core
from automq.core import record_walk
from tests.fuzz.__main__ import run

SHOW = "from automq import core; print(core.kind, core.why_pure, core.description, sep='|')"


def shown(program: str = SHOW, **environment: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout.strip().split("|")


def test_variable_switches_the_compiled_functions_off() -> None:
    why = "AUTOMQ_PURE is set"
    assert shown(AUTOMQ_PURE="1") == ["pure", why, f"pure Python: {why}"]


def test_build_of_another_interface_is_not_used() -> None:
    program = f"""
import sys, types
stale = types.ModuleType("automq.core._native")
stale.INTERFACE = {core.INTERFACE - 1}
sys.modules["automq.core._native"] = stale
import automq.core
automq.core._native = stale
{SHOW}"""
    assert shown(program, AUTOMQ_PURE="0")[:2] == [
        "pure",
        "it was compiled from another version of its source; install again",
    ]


def test_one_kind_runs_at_a_time() -> None:
    assert (core.native is None) == (core.kind == "pure") == (core.walk_records is record_walk.walk_records)


@pytest.mark.skipif(os.environ.get("AUTOMQ_PURE", "0") not in ("", "0"), reason="AUTOMQ_PURE is set")
def test_core_is_compiled_where_there_is_a_compiler() -> None:
    """A source that no longer compiles would go unnoticed: an installation goes on without it."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = pathlib.Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which(compiler) is None or not headers.exists():
        pytest.skip(f"there is no {compiler}, or no Python.h")
    assert core.native is not None, f"{core.why_pure}: remove .venv/.installed and run `make dev`"


@pytest.mark.skipif(core.native is None, reason="nothing was compiled")
def test_short_fuzz() -> None:
    """`make fuzz` has the long form."""
    assert run(inputs=200_000, compared=20_000, seed=1) > 1000
