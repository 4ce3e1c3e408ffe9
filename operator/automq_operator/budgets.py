"""Pure: which of the disruptions that planners want may happen now.

At most one a pass. A voluntary one waits until every other broker serves and is given partitions again after its own
restart; one of a broker that does not serve anyway takes nothing away and only waits for pods that are just ending. A
forced one waits until the broker that was replaced before it serves, or has had its time, and for the operator's own
budget over all clusters.
"""

from collections.abc import Sequence

from automq_operator.plan import Disruption
from automq_operator.planners.lost import is_lost
from automq_operator.view import Broker, View


def allowed(view: View, wanted: Sequence[Disruption]) -> Disruption | None:
    """The one that may happen, forced ones first."""
    for disruption in sorted(wanted, key=lambda item: item.voluntary):
        others = [broker for broker in view.brokers if broker.id != disruption.broker]
        if disruption.voluntary:
            if any(item for item in wanted if not item.voluntary):
                return None
            blocked = any(_ending(broker) for broker in others) or (
                not disruption.broken and any(not broker.serving or _to_be_filled(broker, view) for broker in others)
            )
        else:
            blocked = not view.permits.may_replace or any(_on_its_way(broker, view) for broker in others)
        if not blocked:
            return disruption
    return None


def _ending(broker: Broker) -> bool:
    return broker.pod is not None and broker.pod.deleting


def _to_be_filled(broker: Broker, view: View) -> bool:
    """It was emptied for its restart and is not given anything yet."""
    return broker.draining and broker.id in view.wanted_ids and broker.id not in view.kept_empty


def _on_its_way(broker: Broker, view: View) -> bool:
    """A broker that is being replaced: without a pod, or with a new one that does not serve yet."""
    if broker.pod is None:
        return broker.id in view.wanted_ids
    if is_lost(broker, view.limits):
        return False
    return broker.pod.deleting or (not broker.serving and broker.pod.seen_s < view.limits.replaced_s)
