"""Pure: what a custom resource is to the operator. CRDs, documents, permissions and loops follow from such a value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from automq_operator.plan import DeletionPlan, Plan

Rule = tuple[str, str, str]
"""A CEL rule, its message, and the path of the field that it blames ("" for the schema's own)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str
    json_path: str
    description: str = ""
    wide: bool = False
    """Shown with `-o wide` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of custom resource."""

    kind: str
    plural: str
    short_name: str
    description: str
    spec: type[msgspec.Struct]
    status: type[msgspec.Struct]
    rules: Mapping[tuple[str, ...], Sequence[Rule]]
    """CEL rules by the path of the schema they belong to; () is the resource itself."""
    columns: Sequence[Column]
    scale: bool
    """It has the scale subresource."""
    planning: "Planning | None" = None
    """Where it consists of objects of Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """How a resource is brought about that consists of objects of Kubernetes."""

    parse: Callable[..., Any]
    """(body, default_image=) to the resource as planners take it. Raises msgspec.ValidationError."""
    planner: Callable[..., Plan]
    """(parsed, observed, now=, limits=, permits=) to what to do."""
    released: Callable[..., DeletionPlan | None]
    """(body, deleting_s=, limits=) to the end of a deletion that needs no look at anything."""
    deletion: Callable[..., DeletionPlan]
    """(parsed, observed, body, limits=, permits=) to what a deletion still needs."""
