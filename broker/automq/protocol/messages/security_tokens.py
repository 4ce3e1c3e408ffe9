"""Delegation tokens."""

from dataclasses import dataclass

from automq.protocol.schema import Message, array, binary, int16, int32, int64, string


@dataclass(slots=True, kw_only=True)
class CreatableRenewers:
    principal_type: str = string()
    principal_name: str = string()


@dataclass(slots=True, kw_only=True)
class CreateDelegationTokenRequest(Message):
    """CreateDelegationToken (key 38) request, versions 1 to 3."""

    API_KEY = 38
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    owner_principal_type: str | None = string(since=3, nullable_since=3)
    owner_principal_name: str | None = string(since=3, nullable_since=3)
    renewers: list[CreatableRenewers] = array(CreatableRenewers)
    max_lifetime: int = int64()


@dataclass(slots=True, kw_only=True)
class CreateDelegationTokenResponse(Message):
    """CreateDelegationToken (key 38) response, versions 1 to 3."""

    API_KEY = 38
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    error_code: int = int16()
    principal_type: str = string()
    principal_name: str = string()
    token_requester_principal_type: str = string(since=3)
    token_requester_principal_name: str = string(since=3)
    issue_timestamp: int = int64()
    expiry_timestamp: int = int64()
    max_timestamp: int = int64()
    token_id: str = string()
    hmac: bytes = binary()
    throttle_time: int = int32()


@dataclass(slots=True, kw_only=True)
class RenewDelegationTokenRequest(Message):
    """RenewDelegationToken (key 39) request, versions 1 to 2."""

    API_KEY = 39
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    hmac: bytes = binary()
    renew_period: int = int64()


@dataclass(slots=True, kw_only=True)
class RenewDelegationTokenResponse(Message):
    """RenewDelegationToken (key 39) response, versions 1 to 2."""

    API_KEY = 39
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    error_code: int = int16()
    expiry_timestamp: int = int64()
    throttle_time: int = int32()


@dataclass(slots=True, kw_only=True)
class ExpireDelegationTokenRequest(Message):
    """ExpireDelegationToken (key 40) request, versions 1 to 2."""

    API_KEY = 40
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    hmac: bytes = binary()
    expiry_time_period: int = int64()


@dataclass(slots=True, kw_only=True)
class ExpireDelegationTokenResponse(Message):
    """ExpireDelegationToken (key 40) response, versions 1 to 2."""

    API_KEY = 40
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    error_code: int = int16()
    expiry_timestamp: int = int64()
    throttle_time: int = int32()


@dataclass(slots=True, kw_only=True)
class DescribeDelegationTokenOwner:
    principal_type: str = string()
    principal_name: str = string()


@dataclass(slots=True, kw_only=True)
class DescribeDelegationTokenRequest(Message):
    """DescribeDelegationToken (key 41) request, versions 1 to 3."""

    API_KEY = 41
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    owners: list[DescribeDelegationTokenOwner] | None = array(DescribeDelegationTokenOwner, nullable_since=0)


@dataclass(slots=True, kw_only=True)
class DescribedDelegationTokenRenewer:
    principal_type: str = string()
    principal_name: str = string()


@dataclass(slots=True, kw_only=True)
class DescribedDelegationToken:
    principal_type: str = string()
    principal_name: str = string()
    token_requester_principal_type: str = string(since=3)
    token_requester_principal_name: str = string(since=3)
    issue_timestamp: int = int64()
    expiry_timestamp: int = int64()
    max_timestamp: int = int64()
    token_id: str = string()
    hmac: bytes = binary()
    renewers: list[DescribedDelegationTokenRenewer] = array(DescribedDelegationTokenRenewer)


@dataclass(slots=True, kw_only=True)
class DescribeDelegationTokenResponse(Message):
    """DescribeDelegationToken (key 41) response, versions 1 to 3."""

    API_KEY = 41
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    error_code: int = int16()
    tokens: list[DescribedDelegationToken] = array(DescribedDelegationToken)
    throttle_time: int = int32()
