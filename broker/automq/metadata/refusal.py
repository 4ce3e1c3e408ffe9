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


class ClusterRunning(StoreOwnedByAnother):
    """Somebody runs the cluster: its lease is renewed. Only a cluster that nobody runs is erased."""
