"""What is done for every produced batch, compiled where there was a compiler, else in Python.

The compiled functions (`_native.pyx`, typed Cython, and `checksum.h`) do no I/O, hold no Python object longer than a
call, keep no state and decide nothing that a config may decide. Each has its twin in Python beside it: what a reader
reads, what runs where nothing was compiled, and what tests hold the compiled one against. A compiled function that
refuses says only that it does; the twin, or what stands around it, says why.

`pip install` compiles when it finds a compiler. AUTOMQ_PURE=1 switches the compiled functions off.
"""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Final

from automq.core import record_walk

INTERFACE: Final = 1
"""Raised with every change of what a compiled function takes or gives: an older build is not used."""


def _find_native() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and why it is not used."""
    if os.environ.get("AUTOMQ_PURE", "0") not in ("", "0"):
        return None, "AUTOMQ_PURE is set"
    try:
        from automq.core import _native
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) or "cannot import name" in str(error)
        return None, "it was not compiled" if is_absent else f"it cannot be loaded: {error}"
    found = getattr(_native, "INTERFACE", None)
    if found != INTERFACE:
        return None, "it was compiled from another version of its source; install again"
    return _native, ""


_module, reason = _find_native()

native: Final = _module
"""The compiled module when it is used."""
kind: Final = "pure" if native is None else "native"
why_pure: Final = reason
"""Why the compiled functions are not used; empty when they are."""
description: Final = "native core" if native is not None else f"pure Python: {why_pure}"

WalkRecords = Callable[[record_walk.Data, int, int, int, int, int, int, bool], tuple[int, int, int]]

walk_records: WalkRecords = record_walk.walk_records if native is None else native.walk_records
RECORDS_PER_MS: Final = 1_000 if native is None else 60_000
"""About as many small records are walked in a millisecond."""
