"""Whether a store can be trusted: writers race each other against it, and every check says what it found.

Required checks decide: a store that fails one of them loses acknowledged records sooner or later, and a broker refuses
it. Advisory checks name what a failure costs. Everything is written below `doctor/` and removed again.
"""

import enum
from dataclasses import dataclass

from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.s3stream.ports import ObjectStorage

DOCTOR_PREFIX = "doctor/"


class Outcome(enum.StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The store's adapter has no such operation, or the time was up (advisory checks only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check: what was examined, what came out, what a failure would mean."""

    name: str
    required: bool
    outcome: Outcome
    detail: str
    """What was seen, in one sentence."""
    consequence: str
    """What it means for a broker when this check fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one kind of request, measured during the checks."""

    operation: str
    requests: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The verdict. `store` is what was examined, as the caller named it."""

    store: str
    suitable: bool
    """Every required check passed."""
    checks: tuple[CheckResult, ...]
    latencies: tuple[Latency, ...]
    seconds: float

    def to_json(self) -> str:
        """The report on one line; keys are stable."""
        raise NotImplementedError


async def run_doctor(store: ObjectStorage, *, name: str, clock: Clock, entropy: Entropy) -> DoctorReport:
    """Examine `store` (called `name` in the report) in at most 5 seconds, and sweep up.

    Raises StoreUnavailable, StoreCredentialsRejected, StoreAccessDenied or BucketNotFound when it cannot be asked.
    """
    raise NotImplementedError


async def is_empty(store: ObjectStorage) -> bool:
    """Whether the prefix holds nothing but what a doctor left behind."""
    start_after = ""
    while True:
        infos = await store.list("", start_after=start_after, limit=100)
        if not infos:
            return True
        if any(not info.key.startswith(DOCTOR_PREFIX) for info in infos):
            return False
        start_after = infos[-1].key
