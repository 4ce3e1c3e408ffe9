"""Pure: what is found of one aspect of a cluster, before it becomes a condition."""

from dataclasses import dataclass

from automq_operator.reasons import MEANINGS, ConditionType, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One condition before it gets its times."""

    type: ConditionType
    holds: bool | None
    reason: Reason
    message: str

    def __post_init__(self) -> None:
        assert (self.type, self.reason) in MEANINGS, (self.type, self.reason)
