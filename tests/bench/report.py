"""One row of the benchmark, and whether its goal holds."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure. `holds` is None where there is no goal or nothing to compare with."""

    name: str
    value: float
    unit: str
    goal: str = ""
    holds: bool | None = None

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"value": round(self.value, 4)}


def at_most(name: str, value: float, unit: str, limit: float) -> Row:
    return Row(name, value, unit, f"<= {limit:g}", value <= limit)


def at_least(name: str, value: float, unit: str, limit: float) -> Row:
    return Row(name, value, unit, f">= {limit:g}", value >= limit)
