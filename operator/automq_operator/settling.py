"""Pure: whether scaling is over: every wanted broker serves and has its share, and nothing of the others is left."""

from automq_operator.planners.drain import victims
from automq_operator.reasons import ConditionType, Reason
from automq_operator.verdict import Verdict
from automq_operator.view import Broker, View


def scaling_verdict(view: View, *, restarting: int | None) -> Verdict:
    """`restarting` is emptied for a restart: that is no scaling."""
    reason, text = _found(view, restarting)
    good = reason in (Reason.SETTLED, Reason.SCALED_TO_ZERO)
    return Verdict(type=ConditionType.SCALING, holds=good, reason=reason, message=text)


def _found(view: View, restarting: int | None) -> tuple[Reason, str]:
    wanted = view.cluster.spec.replicas
    if wanted == 0:
        if view.pods:
            return Reason.STOPPING, f"{len(view.pods)} brokers still end"
        return Reason.SCALED_TO_ZERO, "spec.replicas is 0"
    going = victims(view)
    if going:
        return Reason.SCALING_IN, f"{_names(going)} beyond the {wanted} that are wanted"
    coming = [broker for broker in view.wanted if not broker.serving]
    if coming:
        return Reason.SCALING_OUT, f"{len(view.serving)} of {wanted} brokers serve; not yet {_names(coming)}"
    held = [item for item in view.wanted if item.draining and item.id not in (restarting, *view.kept_empty)]
    if held:
        return Reason.BALANCING, f"{_names(held)} may be given partitions again in a moment"
    without = [broker for broker in view.wanted if _without_share(broker, view)]
    if without:
        return Reason.BALANCING, f"{_names(without)} has no partitions yet"
    remembered = [node_id for node_id in view.observed.registered or {} if node_id not in view.wanted_ids]
    if remembered:
        return Reason.SCALING_IN, f"the cluster still knows {', '.join(map(str, sorted(remembered)))}"
    return Reason.SETTLED, f"{wanted} brokers{_kept(view)}"


def _kept(view: View) -> str:
    """What became of the annotation, where brokers that it names are to stay."""
    if view.cluster.drain and view.wanted_ids <= view.cluster.drain:
        return "; automq.io/drain names all of them and is not followed: somebody must lead the partitions"
    kept = [broker for broker in view.wanted if broker.id in view.kept_empty]
    if not kept:
        return ""
    return f"; {_names(kept)} kept empty by automq.io/drain, and not removed: fewer replicas take the highest ids"


def _without_share(broker: Broker, view: View) -> bool:
    """It is new, leads nothing, and others have some to give; not for ever, as those may be too busy or too few."""
    if broker.id in view.kept_empty or broker.pod is None or broker.pod.readyz is None:
        return False
    if broker.pod.readyz.led_partitions != 0 or broker.pod.seen_s >= view.limits.joined_s:
        return False
    led = [pod.readyz.led_partitions or 0 for other in view.wanted if (pod := other.pod) is not None and pod.readyz]
    return max(led, default=0) > 1


def _names(brokers: list[Broker]) -> str:
    return ", ".join(broker.name for broker in brokers[:8]) + (" ..." if len(brokers) > 8 else "")
