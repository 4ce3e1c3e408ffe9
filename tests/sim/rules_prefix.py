"""The rules of a prefix's owner and of processes that wait, and how each is taken out."""

from typing import Any

from tests.sim.rules import Rule, does_nothing, does_nothing_async, returns

CLUSTER = "automq.metadata.cluster:"


def _bound_later(original: Any) -> Any:
    """Addresses are taken on trust; that they are not free shows when it is too late."""

    class Unbound:
        factory = None
        port = 9092

        def close(self) -> None:
            """Nothing is held."""

    def bind(self: Any) -> None:
        from automq.server.lifecycle.states import Refused

        try:
            original(self)
            return
        except Refused:
            pass
        self._http = self._internal = Unbound()
        self._bound = {listener.name: Unbound() for listener in self.settings.node.listeners}

    return bind


def _unread_counts(original: Any) -> Any:
    """A lease that cannot be read has not changed."""
    from automq.s3stream.ports import StoreError

    async def look(self: Any) -> None:
        since = self._since
        try:
            await original(self)
        except StoreError:
            self._until = self._clock.monotonic()
            self._since = self._until if since is None else since

    return look


def _finds_no_claim(original: Any) -> Any:
    """Whoever starts takes the cluster for one that nobody runs."""
    from automq.controller.election import Event

    async def read(self: Any, *, is_start: bool) -> Any:
        found = await original(self, is_start=is_start)
        return Event.NOBODY if is_start else found

    return read


def _gives_offsets_again(original: Any) -> Any:
    if original.__name__ == "opening_offset":
        return lambda state: state.end

    def recorded(stream: Any, item: Any, *, start: Any) -> Any:
        return None if start >= item.end else original(stream, item, start=start)

    return recorded


PREFIX_RULES: tuple[Rule, ...] = (
    Rule(
        "addresses before the claim",
        "Controller epochs: before the first claim a process has checked what could end it: its addresses are bound.",
        ("automq.server.broker:Broker._bind",),
        _bound_later,
        "address_taken",
    ),
    Rule(
        "owner before the claim",
        "Controller epochs, a prefix has an owner: a stranger is refused, before the first claim.",
        (CLUSTER + "may_run",),
        returns(True),
        "stranger_starts",
    ),
    Rule(
        "format before the claim",
        "Controller epochs: before the first claim a process has checked what could end it: the store's format.",
        (CLUSTER + "FORMAT_VERSION",),
        lambda original: 99,
        "written_by_a_newer_program",
    ),
    Rule(
        "adopting names the cluster",
        "A prefix has an owner: naming the cluster id adopts it, nothing less does.",
        (CLUSTER + "check_adoption",),
        does_nothing,
        "taken_over_without_a_word",
    ),
    Rule(
        "never adopted while it runs",
        "A prefix has an owner: never adopted while the recorded owner's lease is renewed.",
        (CLUSTER + "Prefix._check_lease_silent",),
        does_nothing_async,
        "adopted_while_it_runs",
    ),
    Rule(
        "another's prefix",
        "A prefix has an owner: a process that knows its cluster id refuses another's prefix.",
        (CLUSTER + "check_named",),
        does_nothing,
        "another_clusters_prefix",
    ),
    Rule(
        "an empty prefix",
        "A prefix has an owner: a process that knows its cluster id refuses an empty prefix.",
        (CLUSTER + "Prefix._check_empty",),
        does_nothing_async,
        "bucket_made_anew",
    ),
    Rule(
        "adopting an empty prefix",
        "A prefix has an owner: never adopted when it is empty.",
        (CLUSTER + "Prefix._check_empty",),
        does_nothing_async,
        "adopts_an_empty_prefix",
    ),
    Rule(
        "the controller is looked for first",
        "Election: a broker that finds a claim asks whoever made it before it claims.",
        ("automq.server.roles:Roles._read",),
        _finds_no_claim,
        "second_node_id",
    ),
    Rule(
        "a lost claim ends the controller",
        "Roles: losing the claim ends the controller of a process in that moment, and not the broker.",
        ("automq.server.roles:Roles._on_lost",),
        does_nothing,
        "controller_paused_in_a_cluster",
    ),
    Rule(
        "the fenced stay",
        "A fenced process stays, doing nothing, until the newer incarnation no longer renews.",
        ("automq.metadata.lease:LeaseWatch.wait_unchanged",),
        does_nothing_async,
        "two_supervisors",
    ),
    Rule(
        "an unread lease proves nothing",
        "A fenced process: a store that cannot be read does not count.",
        ("automq.metadata.lease:LeaseWatch.poll",),
        _unread_counts,
        "fenced_without_a_store",
    ),
    Rule(
        "offsets are never given twice",
        "Commit check: a stream opens at the larger of its end and its trim point, and what is clipped moves the end.",
        ("automq.s3stream.stream:opening_offset", "automq.controller.commit_check:recorded_range"),
        _gives_offsets_again,
        "trimmed_to_the_end",
    ),
)
