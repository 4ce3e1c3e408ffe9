"""Client telemetry (KIP-714)."""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, binary, boolean, int8, int16, int32, unique_id


@dataclass(slots=True, kw_only=True)
class GetTelemetrySubscriptionsRequest(Message):
    """GetTelemetrySubscriptions (key 71) request, version 0."""

    API_KEY = 71
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    client_instance_id: uuid.UUID = unique_id()


@dataclass(slots=True, kw_only=True)
class GetTelemetrySubscriptionsResponse(Message):
    """GetTelemetrySubscriptions (key 71) response, version 0."""

    API_KEY = 71
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    client_instance_id: uuid.UUID = unique_id()
    subscription_id: int = int32()
    accepted_compression_types: list[int] = array(Scalar.INT8)
    push_interval: int = int32()
    telemetry_max_bytes: int = int32()
    delta_temporality: bool = boolean()
    requested_metrics: list[str] = array(Scalar.STRING)


@dataclass(slots=True, kw_only=True)
class PushTelemetryRequest(Message):
    """PushTelemetry (key 72) request, version 0."""

    API_KEY = 72
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    client_instance_id: uuid.UUID = unique_id()
    subscription_id: int = int32()
    terminating: bool = boolean()
    compression_type: int = int8()
    metrics: bytes = binary()


@dataclass(slots=True, kw_only=True)
class PushTelemetryResponse(Message):
    """PushTelemetry (key 72) response, version 0."""

    API_KEY = 72
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
