"""Pure: the topics in a consumer's subscription, the only part of member metadata that the broker reads."""

from typing import Final

from automq.protocol.codec import MalformedMessage, decode_versioned
from automq.protocol.messages.consumer_protocol import ConsumerProtocolSubscription

CONSUMER_PROTOCOL_TYPE: Final = "consumer"


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics a consumer asked for; None when the bytes are not a consumer's subscription."""
    try:
        subscription = decode_versioned(ConsumerProtocolSubscription, metadata, is_newest_for_newer=True)
    except MalformedMessage:
        return None
    return frozenset(subscription.topics)
