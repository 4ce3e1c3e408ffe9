"""Answers put together from encoded topics equal those encoded whole."""

import random

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.messages.discovery import MetadataResponse
from automq.protocol.metadata_codec import (
    EncodedMetadata,
    encode_metadata_partitions,
    encode_metadata_topic,
    join_metadata_topic,
)
from tests.support.messages import random_message


@pytest.mark.parametrize("version", MetadataResponse.VERSIONS)
def test_answer_is_that_of_the_compiled_codec(version: int) -> None:
    source = random.Random(version)
    for count in (None, None, None, 200):
        response = random_message(MetadataResponse, version, source)
        if count is not None:
            response.topics = (
                response.topics or random_message(MetadataResponse, version, random.Random(1)).topics
            ) * count
        expected = encode_response(APIS[ApiKey.METADATA], version, 9, response)
        topics = [encode_metadata_topic(topic, version) for topic in response.topics]
        for topic, whole in zip(response.topics, topics, strict=True):
            partitions, topic.partitions = topic.partitions, []
            pieces = [encode_metadata_partitions(partitions[start : start + 2], version) for start in (0, 2)]
            pieces.append(encode_metadata_partitions(partitions[4:], version))
            assert join_metadata_topic(topic, pieces, len(partitions), version) == whole
            topic.partitions = partitions  # the same topic may come again
        response.topics = []

        assert EncodedMetadata(response, topics, len(topics)).encode(version, 9) == expected
        assert EncodedMetadata(response, [b"".join(topics)], len(topics)).encode(version, 9) == expected
