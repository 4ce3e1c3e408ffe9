"""Words that people act on."""

from automq_operator import api
from automq_operator.wording import in_fields


def test_op13_remedies_of_brokers_name_fields_of_the_resource() -> None:
    said = (
        "cluster X belongs to Y: correct automq.storage.uri or automq.cluster.owner, or set automq.storage.adopt=X to "
        "take it over from an owner that has stopped"
    )
    text = in_fields(said)
    assert "set spec.storage.adopt: X to take" in text
    assert "correct spec.storage, or set" in text
    assert not any(prefix in text for prefix in api.OWNED_PREFIXES)


def test_what_is_no_setting_of_the_operator_stays_as_it_is() -> None:
    said = "automq.wal.interval.ms must be a number: see s3://bucket/automq"
    assert in_fields(said) == said
