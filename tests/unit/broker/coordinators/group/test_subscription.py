"""What the broker reads of a consumer's subscription."""

from automq.coordinators.group.subscription import subscribed_topics
from automq.protocol.codec import encode_versioned
from automq.protocol.messages.consumer_protocol import ConsumerProtocolSubscription


def test_topics_of_every_version_are_read() -> None:
    for version in ConsumerProtocolSubscription.VERSIONS:
        data = encode_versioned(ConsumerProtocolSubscription(topics=["a", "b"]), version)
        assert subscribed_topics(data) == {"a", "b"}


def test_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    data = encode_versioned(ConsumerProtocolSubscription(topics=["a"]), 3)
    assert subscribed_topics(b"\x00\x09" + data[2:] + b"more") == {"a"}


def test_other_bytes_say_nothing() -> None:
    assert subscribed_topics(b"") is None
    assert subscribed_topics(b"\x00\x00\xff\xff\xff\xff") is None
