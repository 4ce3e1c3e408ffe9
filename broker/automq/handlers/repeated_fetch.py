"""The Fetch of a consumer at the end of its log, which waits in vain again and again: as little as can be done for it.

A thousand idle consumers send two thousand a second. What such a one waits for stays known between an answer and the
next request, as long as nothing happens to its partitions; then only its time is new.
"""

from typing import Final

from automq.handlers.delayed_fetch import NOTHING, DelayedFetch
from automq.handlers.fetch_checks import are_quiet
from automq.handlers.wide_fetch import WideFetchHandler
from automq.partition.fetch_session import FINAL_EPOCH
from automq.protocol.connection import ResponseSlot

RESTING_TARGETS_MAX: Final = 64
"""Of more partitions something mostly comes, and each of them would have to be told."""


class RepeatedFetchHandler(WideFetchHandler):
    """Fetch of one broker, also of those who ask for the same again."""

    def repeat(self, fetch: DelayedFetch, slot: ResponseSlot, *, correlation_id: int, epoch: int, now: float) -> None:
        """The client of `fetch`, which was answered, asks for the same again, but for the session's epoch."""
        request, plan = fetch.request, fetch.plan
        request.session_epoch = epoch
        # Without a session the same request reads the same.
        if plan.session is not None or request.session_id or epoch != FINAL_EPOCH:
            now_ms = int(now * 1000)
            is_new = request.topics or request.forgotten_topics_data
            found = None if is_new else self._sessions.resume(plan, epoch, now_ms=now_ms)
            if found is plan and fetch.resting is not None and not fetch.session.has_rules:
                fetch.slot, fetch.correlation_id, fetch.is_done = slot, correlation_id, False
                self._purgatory.park_again(fetch, fetch.wait_s)
                return
            plan = found or self._sessions.begin(request, fetch.version, now_ms=now_ms, draw_id=self._draw_id)
            if plan.error:
                self._refuse_session(slot, plan.error, version=fetch.version, correlation_id=correlation_id)
                return
        fetch.rest_no_more()
        fetch.renew(slot, plan, correlation_id)
        fetch.refused = NOTHING
        self._begin(fetch)

    def expire(self, fetch: DelayedFetch) -> bool:
        targets = fetch.plan.targets
        if (
            fetch.plan.is_incremental
            and len(targets) <= RESTING_TARGETS_MAX
            and not fetch.refused
            and not fetch.is_from_replica
            and are_quiet(targets)
        ):
            self._complete_quiet(fetch)
            return fetch.missing_bytes == fetch.min_bytes and not fetch.is_hastened
        self.answer(fetch)
        return False
