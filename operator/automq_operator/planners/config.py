"""Pure: settings that brokers take while they run are what `spec.config` says, on every broker, without a restart.

What was set is in the status before it is asked for, so that an operator that follows one that died unsets what is not
wanted any more. What is named nowhere is nobody's business: people may set it with Kafka's tools. A broker that started
with a setting in its file has it until it starts again; where it is not wanted any more, the value that means the same
as none is set for all until nobody has it from a file.
"""

from automq_operator.dynamic_configs import DEFAULTS, dynamic, same, unset_value
from automq_operator.observed import BrokerConfig
from automq_operator.plan import CONFIG, Action, Finding, Proposal, SetConfigs, may_try
from automq_operator.planners.drain import ways
from automq_operator.reasons import ConditionType, Reason
from automq_operator.verdict import Verdict
from automq_operator.view import View

NOT_SET = BrokerConfig()


def plan(view: View) -> Proposal:
    """One change for all brokers, and one for each that somebody set apart."""
    changes = _changes(view)
    under_way = [change for change in changes if may_try(view.observed.refused, change)]
    names = sorted({name for change in under_way for name in (*change.set, *change.unset)})
    findings = [Finding(reason=Reason.CONFIGURING, about=names)] if names else []
    # Those that were refused are wanted all the same: what is wanted no more is forgotten, and asked for anew.
    actions: list[Action] = [*changes]
    return Proposal(actions=actions, findings=findings)


def remembered(view: View) -> list[str]:
    """For the status: what is, or will be, set here, until no broker has it."""
    wanted = dynamic(view.cluster.spec.config)
    configs = view.observed.configs.values()
    before = [name for name in view.cluster.status.dynamic_configs if name in DEFAULTS and name not in wanted]
    left = [name for name in before if not configs or any(_is_set(each.get(name, NOT_SET)) for each in configs)]
    return sorted([*wanted, *left])


def verdicts(view: View) -> list[Verdict]:
    """One where something is, or was, to be set."""
    wanted = dynamic(view.cluster.spec.config)
    if not wanted and not view.cluster.status.dynamic_configs:
        return []
    reason, holds, text = _found(view, wanted)
    return [Verdict(type=ConditionType.CONFIG, holds=holds, reason=reason, message=text)]


def _found(view: View, wanted: dict[str, str]) -> tuple[Reason, bool | None, str]:
    if not view.observed.configs:
        return Reason.UNKNOWN, None, "no broker that serves has said what it has"
    refusals = [item.message for (kind, _), item in sorted(view.observed.refused.items()) if kind == CONFIG]
    if refusals:
        return Reason.REFUSED, False, "; ".join(refusals)
    unwritten = sorted(wanted.keys() - set(view.cluster.status.dynamic_configs))
    names = sorted({name for change in _changes(view) for name in (*change.set, *change.unset)} | set(unwritten))
    if names:
        return (Reason.PAUSED if view.cluster.paused else Reason.CONFIGURING), False, f"not yet: {', '.join(names)}"
    heard = len(view.observed.configs)
    return Reason.SETTLED, True, f"{', '.join(sorted(wanted)) or 'nothing is set'}: by the answers of {heard} brokers"


def _changes(view: View) -> list[SetConfigs]:
    """Nothing that the status does not have yet: the next pass sets it."""
    wanted, heard = dynamic(view.cluster.spec.config), view.observed.configs
    through = tuple(ways(view))
    if not heard or not through:
        return []
    to_set, to_unset = {}, []
    for name in view.cluster.status.dynamic_configs:
        if name not in DEFAULTS:
            continue
        found = [configs.get(name, NOT_SET) for configs in heard.values()]
        value = wanted.get(name)
        if value is None and any(item.started_with is not None for item in found):
            value = unset_value(name, view.cluster.spec.config)
        if all(same(value, item.shared) for item in found):
            continue
        if value is None:
            to_unset.append(name)
        else:
            to_set[name] = value
    changes = []
    if to_set or to_unset:
        changes = [SetConfigs(name=view.cluster.name, broker=None, set=to_set, unset=to_unset, through=through)]
    return [*changes, *_set_apart(view, wanted)]


def _set_apart(view: View, wanted: dict[str, str]) -> list[SetConfigs]:
    """Brokers with a value of their own for what the spec names: Kafka's rule is that each is asked itself."""
    found = []
    for broker in view.brokers:
        configs = view.observed.configs.get(broker.id, {})
        own = [name for name in sorted(wanted) if configs.get(name, NOT_SET).own is not None]
        if own and broker.pod is not None and broker.pod.address is not None:
            itself = ((broker.pod.address, view.cluster.inside_port),)
            found.append(SetConfigs(name=broker.name, broker=broker.id, set={}, unset=own, through=itself))
    return found


def _is_set(config: BrokerConfig) -> bool:
    return config.shared is not None or config.started_with is not None
