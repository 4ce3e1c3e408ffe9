"""Pure: the settings of the balancer, a section of the settings tree of its own."""

from dataclasses import dataclass

from automq.server.config.setting import INT64_MAX, boolean, integer, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerSection:
    """Whether and how often partitions move so that brokers carry the same."""

    enabled: bool = setting(
        "automq.balancer.enable",
        boolean(),
        default=True,
        doc="Whether the active controller moves partitions from brokers that carry more than others: bytes in and out "
        "of single partitions and how busy event loops are; in an idle cluster numbers of partitions. A broker that "
        "joins gets its share that way.",
        used_by="controller/balancing",
    )
    interval_ms: int = setting(
        "automq.balancer.interval.ms",
        integer(least=100, most=INT64_MAX),
        default=10_000,
        doc="How often that is looked at. A broker that carries up to a tenth more than the mean is left alone.",
        used_by="controller/balancing",
    )
