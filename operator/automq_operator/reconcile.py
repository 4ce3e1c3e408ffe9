"""Pure: (cluster, observed) to the actions that bring what is closer to what should be.

Level-triggered: it looks at the whole state each time and never remembers; what its own actions came to is part of what
is observed. Planners propose, budgets choose among disruptions, and nothing that one of them finds hides what another
does.
"""

from collections.abc import Sequence
from typing import Final

from automq_operator.budgets import allowed
from automq_operator.cluster import Cluster
from automq_operator.observed import Observed
from automq_operator.plan import BROKER, Action, Limits, Note, Permits, Plan, Proposal, key_of, may_try
from automq_operator.planners import children, config, drain, fenced, gone, lost, roll, scale
from automq_operator.reasons import ConditionType, Reason
from automq_operator.scaling import autoscaling_verdicts
from automq_operator.settling import scaling_verdict
from automq_operator.status import (
    paused_verdict,
    progress_verdict,
    ready_verdict,
    report,
    storage_verdict,
)
from automq_operator.verdict import Verdict
from automq_operator.view import View
from automq_operator.wording import action_note

AT_REST: Final = (Reason.UPGRADE_PENDING, Reason.WAITING_FOR_LOAD_BALANCER)
"""Under way, and only others can move it."""
_GOOD: Final = {
    ConditionType.READY: "Ready",
    ConditionType.STORAGE_READY: "StoreAvailable",
    ConditionType.SCALING: "ScalingSettled",
    ConditionType.CONFIG: "ConfigApplied",
}
WELL: Final = (Reason.SETTLED, Reason.PAUSED, *AT_REST)


PLANNERS: Final = (gone.plan, children.plan, lost.plan, scale.plan, fenced.plan, roll.plan, config.plan)


def reconcile(
    cluster: Cluster, observed: Observed, *, now: str, limits: Limits, permits: Permits | None = None
) -> Plan:
    """One pass. `now` is an RFC 3339 time, used only for conditions that change."""
    permits = permits or Permits()
    live = scale.live_by_zone(cluster, observed)
    before = View(cluster, observed, limits=limits, permits=permits, kept=live)
    kept = scale.kept(wanted=cluster.wanted_by_zone(), live=live, drained=drain.drained(before))
    view = View(cluster, observed, limits=limits, permits=permits, kept=kept)
    proposals = [planner(view) for planner in PLANNERS]
    paused = cluster.paused
    chosen = allowed(view, [disruption for proposal in proposals for disruption in proposal.disruptions])
    voluntary = chosen is not None and chosen.voluntary and drain.is_worth_it(view, chosen.broker)
    restarting = chosen.broker if chosen is not None and voluntary else None
    drains_first = restarting is not None and not drain.is_done(view, restarting)
    proposals.append(drain.plan(view, restarting=restarting))
    merged = [] if paused else [action for proposal in proposals for action in proposal.actions]
    if chosen is not None and not drains_first and not paused:
        merged.append(chosen.action)
    actions = [action for action in merged if may_try(observed.refused, action)]
    notes = [] if paused else _notes(proposals, actions)
    findings = [finding for proposal in proposals for finding in proposal.findings]
    progressing = progress_verdict(findings, paused=paused)
    storage = storage_verdict(view)
    ready = ready_verdict(view, storage)
    scaling = scaling_verdict(view, restarting=restarting)
    verdicts = [ready, storage, progressing, scaling, paused_verdict(paused)]
    configs = config.verdicts(view)
    verdicts += [*autoscaling_verdicts(view), *configs]
    return Plan(
        actions=actions,
        notes=[*notes, *_news(cluster, [ready, storage, scaling, *configs])],
        wanted=frozenset(map(key_of, merged)),
        status=report(view, verdicts, dynamic_configs=config.remembered(view), now=now),
        converged=not actions
        and (not progressing.holds or progressing.reason in AT_REST)
        and (paused or not _is_moving(scaling, observed)),
        well=(ready.holds is True or ready.reason is Reason.SCALED_TO_ZERO) and progressing.reason in WELL,
        pending=view.pending and not paused,
        moved_by=view.moved_by,
    )


def _is_moving(scaling: Verdict, observed: Observed) -> bool:
    """Brokers tell of what moves, and of it alone: a pod that does not start, or a refusal, needs no look a second."""
    refused = any(kind == BROKER for kind, _ in observed.refused)
    return scaling.reason in (Reason.BALANCING, Reason.SCALING_IN) and not refused


def _notes(proposals: Sequence[Proposal], actions: Sequence[Action]) -> list[Note]:
    action_notes = [action_note(action) for action in actions]
    notes = [note for proposal in proposals for note in proposal.notes]
    return [*notes, *(note for note in action_notes if note is not None)]


def _news(cluster: Cluster, verdicts: list[Verdict]) -> list[Note]:
    """An Event for what people wait for or fear: readiness and the store, when they change."""
    before = {condition.type: condition for condition in cluster.status.conditions}
    words = {True: "True", False: "False", None: "Unknown"}
    notes = []
    for verdict in verdicts:
        old = before.get(verdict.type)
        changed = old is None or (old.status, old.reason) != (words[verdict.holds], verdict.reason)
        first_guess = old is None and verdict.holds is not True
        if not changed or first_guess or verdict.holds is None:
            continue
        good = _GOOD[verdict.type]
        if verdict.type in (ConditionType.SCALING, ConditionType.CONFIG) and not verdict.holds:
            continue  # what it does is told when it is done, and what is refused is told as such
        text = f"{verdict.type}: {verdict.reason}: {verdict.message}"
        reason = good if verdict.holds else str(verdict.reason)
        notes.append(
            Note(
                reason=reason,
                message=text,
                warning=not verdict.holds and verdict.reason is not Reason.SCALED_TO_ZERO,
                about=str(verdict.type),
            )
        )
    return notes
