"""Adapter: what of one cluster only its brokers know, by Kafka's protocol: who is registered, and what is set.

Asked while something is under way, else now and then: so drift is found, and a cluster at rest costs next to nothing.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from automq_operator import api, naming
from automq_operator.dynamic_configs import DEFAULTS
from automq_operator.kafka_admin import AdminFailed, KafkaAdmin
from automq_operator.observed import BrokerConfig, Observed, Pod
from automq_operator.view import SERVING

log = logging.getLogger(__name__)

ASKED_S: Final = 60.0
"""The brokers of a cluster at rest are asked this often."""
REGISTERED_TRIES: Final = 3
"""Brokers that are asked, one after the other, who is known to the cluster."""


class KafkaObserver:
    """Of one cluster. Remembers the last answers, by the operator's own clock."""

    def __init__(self, admin: KafkaAdmin, what: str) -> None:
        self._admin, self._what = admin, what
        self._registered: Mapping[int, bool] | None = None
        self._registered_at = -ASKED_S
        self._configs: Mapping[int, Mapping[str, BrokerConfig]] = {}
        self._configs_at = -ASKED_S
        self._asked_for: object = None

    def forget(self) -> None:
        """Something was changed: what was heard may be so no more."""
        self._registered_at = self._configs_at = -ASKED_S

    async def observe(self, observed: Observed, body: Mapping[str, Any], *, at_rest: bool, now: float) -> Observed:
        """With what brokers say. What none of them answered is as it was heard last."""
        at_rest = at_rest and not observed.gone
        serving = [pod for pod in observed.pods if pod.address and pod.readyz and pod.readyz.state == SERVING]
        port = api.inside_port(body["spec"])
        if serving and (not at_rest or now - self._registered_at >= ASKED_S):
            await self._ask_registered([(str(pod.address), port) for pod in serving[:REGISTERED_TRIES]], now)
        names = _names(body)
        asked_for = (names, body["metadata"].get("generation"), frozenset(pod.uid for pod in serving))
        if not names or not serving:
            self._configs, self._asked_for = {}, None
        elif not at_rest or asked_for != self._asked_for or now - self._configs_at >= ASKED_S:
            await self._ask_configs(serving, port, names)
            self._asked_for, self._configs_at = asked_for, now
        return replace(observed, registered=self._registered, configs=self._configs)

    async def _ask_registered(self, through: Sequence[tuple[str, int]], now: float) -> None:
        try:
            self._registered = await self._admin.brokers(through)
            self._registered_at = now
        except AdminFailed as error:
            log.info("%s: its brokers are not listed: %s", self._what, error)

    async def _ask_configs(self, serving: Sequence[Pod], port: int, names: Sequence[str]) -> None:
        """All at once. One that does not answer says nothing about the others."""

        async def ask(pod: Pod) -> tuple[int, Mapping[str, BrokerConfig]] | None:
            node_id = naming.node_id(pod.name)
            try:
                return node_id, await self._admin.configs((str(pod.address), port), node_id, names)
            except AdminFailed as error:
                log.info("%s: %s does not say what is set: %s", self._what, pod.name, error)
                return None

        answers = await asyncio.gather(*(ask(pod) for pod in serving))
        self._configs = dict(sorted(answer for answer in answers if answer is not None))


def _names(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings that brokers are to have, or had, from here; of a resource that may not parse."""
    wanted = body["spec"].get("config")
    before = (body.get("status") or {}).get("dynamicConfigs")
    given = [*(wanted if isinstance(wanted, dict) else ()), *(before if isinstance(before, list) else ())]
    return tuple(sorted({name for name in given if name in DEFAULTS}))
