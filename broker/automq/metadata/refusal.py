"""Why a prefix is not for us: a closed set, decided before the first claim or fence."""


class PrefixRefused(Exception):
    """The prefix is not for us. The message says what happened, to what, and what to do."""


class StoreUnsuitable(PrefixRefused):
    """The store fails a check that safety rests on, or the prefix holds foreign data."""


class StoreOwnedByAnother(PrefixRefused):
    """The prefix records another owner; the message names the cluster id."""


class StoreClusterMissing(PrefixRefused):
    """A cluster was named, and the prefix is empty or another's."""


class ClusterInUse(PrefixRefused):
    """Another node id is the broker of this cluster; the message names it."""


def older_controller(node: int | None) -> ClusterInUse:
    """The controller lives, and takes no connections of brokers; `node` is whose it is, where that is known."""
    holder = "" if node is None else f" (node id {node})"
    return ClusterInUse(
        f"the controller of this cluster{holder} is alive and names no internal listener: it is an older version, "
        "which forms no cluster with others; upgrade it first, or stop it"
    )


class ClusterRunning(StoreOwnedByAnother):
    """Somebody runs the cluster: its lease is renewed. Only a cluster that nobody runs is erased."""
