"""UpdateFeatures, and what is said of features."""

import pytest

from automq.handlers.features import FEATURES, handle_update_features, supported_features
from automq.metadata.image import MetadataImage
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.controller import FeatureUpdateKey, UpdateFeaturesRequest
from tests.support.handler_world import context_of


def test_older_clients_are_not_told_of_ranges_that_begin_at_0() -> None:
    """They take such a range for an error, and give up."""
    assert supported_features(3) == []
    assert {
        feature.name: (feature.min_version, feature.max_version) for feature in supported_features(4)
    } == dict.fromkeys(FEATURES, (0, 0))


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "level", "code"),
    [
        ("group.version", 0, ErrorCode.NONE),
        ("group.version", 1, ErrorCode.INVALID_UPDATE_VERSION),
        ("group.version", -1, ErrorCode.INVALID_UPDATE_VERSION),
        ("metadata.version", 30, ErrorCode.INVALID_UPDATE_VERSION),
        ("", 0, ErrorCode.INVALID_UPDATE_VERSION),
    ],
)
async def test_a_feature_stays_at_its_level(version: int, name: str, level: int, code: ErrorCode) -> None:
    updates = [FeatureUpdateKey(feature="share.version"), FeatureUpdateKey(feature=name, max_version_level=level)]
    answer = await handle_update_features(
        context_of(MetadataImage(), version=version), UpdateFeaturesRequest(feature_updates=updates)
    )
    assert answer.error_code == code
    assert (answer.error_message is None) == (code is ErrorCode.NONE)
    assert len(answer.results) == (2 if version < 2 and code is ErrorCode.NONE else 0)


async def test_no_feature_is_updated_twice_at_once_or_in_an_unknown_way() -> None:
    twice = [FeatureUpdateKey(feature="share.version")] * 2
    answer = await handle_update_features(
        context_of(MetadataImage(), version=2), UpdateFeaturesRequest(feature_updates=twice)
    )
    assert answer.error_code == ErrorCode.INVALID_REQUEST
    odd = [FeatureUpdateKey(feature="share.version", upgrade_type=9)]
    answer = await handle_update_features(
        context_of(MetadataImage(), version=2), UpdateFeaturesRequest(feature_updates=odd)
    )
    assert answer.error_code == ErrorCode.INVALID_UPDATE_VERSION
