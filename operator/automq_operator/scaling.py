"""Pure: what is said of the autoscaler that a cluster asked for, in its own words where it has some."""

from collections.abc import Mapping
from typing import Any, Final

from automq_operator import naming
from automq_operator.reasons import ConditionType, Reason
from automq_operator.verdict import Verdict
from automq_operator.view import View

AMBIGUOUS: Final = "AmbiguousSelector"
"""Of two autoscalers that select the same pods, in the words of Kubernetes' controller: it stops both."""
DISABLED: Final = "ScalingDisabled"
"""The same controller's word where replicas are 0."""
LIMITED: Final = ("TooManyReplicas", "TooFewReplicas")


def autoscaling_verdicts(view: View) -> list[Verdict]:
    """One where `autoscaling` is asked for, else none."""
    if view.cluster.spec.autoscaling is None:
        return []
    name = naming.autoscaler(view.cluster.name)
    live = view.observed.owned("HorizontalPodAutoscaler", name, view.cluster.uid)
    if live is None and view.observed.get("HorizontalPodAutoscaler", name) is not None:
        text = f"HorizontalPodAutoscaler/{name} exists and is not this cluster's; rename or remove it"
        return [_verdict(False, Reason.NOT_ABLE, text)]
    conditions = {item["type"]: item for item in ((live or {}).get("status") or {}).get("conditions") or []}
    return [_judged(conditions)]


def _judged(conditions: Mapping[str, Mapping[str, Any]]) -> Verdict:
    able, active, limited = (conditions.get(word) for word in ("AbleToScale", "ScalingActive", "ScalingLimited"))
    if active is not None and active["status"] == "False":
        words = f"{active.get('reason')}: {active.get('message')}"
        if active.get("reason") == DISABLED:
            return _verdict(False, Reason.SCALED_TO_ZERO, words)
        if active.get("reason") == AMBIGUOUS:
            return _verdict(False, Reason.AUTOSCALERS_CONFLICT, f"another autoscaler scales the same brokers: {words}")
        return _verdict(False, Reason.METRICS_MISSING, words)
    if able is not None and able["status"] == "False":
        return _verdict(False, Reason.NOT_ABLE, f"{able.get('reason')}: {able.get('message')}")
    if active is None or active["status"] != "True":
        return _verdict(None, Reason.NOT_SEEN_YET, "the autoscaler has not been looked at yet")
    if limited is not None and limited["status"] == "True" and limited.get("reason") in LIMITED:
        return _verdict(True, Reason.AT_LIMIT, f"{limited.get('reason')}: {limited.get('message')}")
    return _verdict(True, Reason.SCALING, "the autoscaler has its metrics")


def _verdict(holds: bool | None, reason: Reason, text: str) -> Verdict:
    return Verdict(type=ConditionType.AUTOSCALING, holds=holds, reason=reason, message=text)
