"""Handles UpdateFeatures, and what ApiVersions says of features: the levels that are really there.

A level of 0 means that the feature is off, as Kafka's is before it is upgraded: groups follow the classic protocol
alone, there are no share and no streams groups, and nobody but the leader is eligible. What is not known by its level
(transactions, the version of Kafka's own metadata records) is not named.
"""

from collections.abc import Mapping
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.ids import NodeId
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.controller import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from automq.protocol.messages.discovery import SupportedFeatureKey
from automq.protocol.schema import Message

FEATURES: Final = {
    "eligible.leader.replicas.version": range(1),
    "group.version": range(1),
    "share.version": range(1),
    "streams.version": range(1),
}
"""The levels of each that are supported; none is above 0, so none is finalized."""

_LEVEL_0_SINCE: Final = 4
"""Older clients take a range that begins at 0 for an error: they are not told of it, as Kafka does."""
_RESULTS_UNTIL: Final = 1
_UPGRADE, _SAFE_DOWNGRADE, _UNSAFE_DOWNGRADE = 1, 2, 3


def supported_features(version: int) -> list[SupportedFeatureKey]:
    """What ApiVersions lists in this version."""
    return [
        SupportedFeatureKey(name=name, min_version=levels[0], max_version=levels[-1])
        for name, levels in FEATURES.items()
        if levels[0] > 0 or version >= _LEVEL_0_SINCE
    ]


async def handle_update_features(context: RequestContext, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse:
    """All updates or none, as Kafka: there is no level to change to."""
    seen: set[str] = set()
    for update in request.feature_updates:
        try:
            if update.feature in seen:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"{update.feature} is updated twice in one request.")
            seen.add(update.feature)
            _check(context.version, context.services.node, update)
        except ApiError as refused:
            return UpdateFeaturesResponse(
                error_code=refused.code,
                error_message="The update failed for all features since the following feature had an error: "
                f"{refused.message}",
            )
    response = UpdateFeaturesResponse()
    if context.version <= _RESULTS_UNTIL:
        response.results = [UpdatableFeatureResult(feature=update.feature) for update in request.feature_updates]
    return response


def _check(version: int, node: NodeId, update: FeatureUpdateKey) -> None:
    """Raises ApiError unless the update asks for what is there already."""
    level = update.max_version_level
    kind = update.upgrade_type if version >= 1 else _SAFE_DOWNGRADE if update.allow_downgrade else _UPGRADE
    prefix = f"Invalid update version {level} for feature {update.feature}."
    if kind not in (_UPGRADE, _SAFE_DOWNGRADE, _UNSAFE_DOWNGRADE):
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION, f"{prefix} The controller does not support the given upgrade type."
        )
    levels = FEATURES.get(update.feature)
    if levels is None:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION, f"{prefix} Local controller {node} does not support this feature."
        )
    if level < 0:
        raise ApiError(ErrorCode.INVALID_UPDATE_VERSION, f"{prefix} A feature version cannot be less than 0.")
    if level not in levels:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION,
            f"{prefix} Local controller {node} only supports versions {levels[0]}-{levels[-1]}",
        )


HANDLERS: Final[Mapping[type[Message], Handler]] = {UpdateFeaturesRequest: handle_update_features}
