"""SASL, ACLs and SCRAM credentials."""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, binary, int8, int16, int32, int64, string


@dataclass(slots=True, kw_only=True)
class SaslHandshakeRequest(Message):
    """SaslHandshake (key 17) request, versions 0 to 1."""

    API_KEY = 17
    VERSIONS = range(2)

    mechanism: str = string()


@dataclass(slots=True, kw_only=True)
class SaslHandshakeResponse(Message):
    """SaslHandshake (key 17) response, versions 0 to 1."""

    API_KEY = 17
    VERSIONS = range(2)

    error_code: int = int16()
    mechanisms: list[str] = array(Scalar.STRING)


@dataclass(slots=True, kw_only=True)
class SaslAuthenticateRequest(Message):
    """SaslAuthenticate (key 36) request, versions 0 to 2."""

    API_KEY = 36
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    auth_bytes: bytes = binary()


@dataclass(slots=True, kw_only=True)
class SaslAuthenticateResponse(Message):
    """SaslAuthenticate (key 36) response, versions 0 to 2."""

    API_KEY = 36
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    auth_bytes: bytes = binary()
    session_lifetime: int = int64(since=1, ignorable=True)


@dataclass(slots=True, kw_only=True)
class DescribeAclsRequest(Message):
    """DescribeAcls (key 29) request, versions 1 to 3."""

    API_KEY = 29
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    resource_type_filter: int = int8()
    resource_name_filter: str | None = string(nullable_since=0, default=None)
    pattern_type_filter: int = int8(default=3)
    principal_filter: str | None = string(nullable_since=0, default=None)
    host_filter: str | None = string(nullable_since=0, default=None)
    operation: int = int8()
    permission_type: int = int8()


@dataclass(slots=True, kw_only=True)
class AclDescription:
    principal: str = string()
    host: str = string()
    operation: int = int8()
    permission_type: int = int8()


@dataclass(slots=True, kw_only=True)
class DescribeAclsResource:
    resource_type: int = int8()
    resource_name: str = string()
    pattern_type: int = int8(default=3)
    acls: list[AclDescription] = array(AclDescription)


@dataclass(slots=True, kw_only=True)
class DescribeAclsResponse(Message):
    """DescribeAcls (key 29) response, versions 1 to 3."""

    API_KEY = 29
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    resources: list[DescribeAclsResource] = array(DescribeAclsResource)


@dataclass(slots=True, kw_only=True)
class AclCreation:
    resource_type: int = int8()
    resource_name: str = string()
    resource_pattern_type: int = int8(default=3)
    principal: str = string()
    host: str = string()
    operation: int = int8()
    permission_type: int = int8()


@dataclass(slots=True, kw_only=True)
class CreateAclsRequest(Message):
    """CreateAcls (key 30) request, versions 1 to 3."""

    API_KEY = 30
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    creations: list[AclCreation] = array(AclCreation)


@dataclass(slots=True, kw_only=True)
class AclCreationResult:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class CreateAclsResponse(Message):
    """CreateAcls (key 30) response, versions 1 to 3."""

    API_KEY = 30
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    results: list[AclCreationResult] = array(AclCreationResult)


@dataclass(slots=True, kw_only=True)
class DeleteAclsFilter:
    resource_type_filter: int = int8()
    resource_name_filter: str | None = string(nullable_since=0, default=None)
    pattern_type_filter: int = int8(default=3)
    principal_filter: str | None = string(nullable_since=0, default=None)
    host_filter: str | None = string(nullable_since=0, default=None)
    operation: int = int8()
    permission_type: int = int8()


@dataclass(slots=True, kw_only=True)
class DeleteAclsRequest(Message):
    """DeleteAcls (key 31) request, versions 1 to 3."""

    API_KEY = 31
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    filters: list[DeleteAclsFilter] = array(DeleteAclsFilter)


@dataclass(slots=True, kw_only=True)
class DeleteAclsMatchingAcl:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    resource_type: int = int8()
    resource_name: str = string()
    pattern_type: int = int8(default=3)
    principal: str = string()
    host: str = string()
    operation: int = int8()
    permission_type: int = int8()


@dataclass(slots=True, kw_only=True)
class DeleteAclsFilterResult:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    matching_acls: list[DeleteAclsMatchingAcl] = array(DeleteAclsMatchingAcl)


@dataclass(slots=True, kw_only=True)
class DeleteAclsResponse(Message):
    """DeleteAcls (key 31) response, versions 1 to 3."""

    API_KEY = 31
    VERSIONS = range(1, 4)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    filter_results: list[DeleteAclsFilterResult] = array(DeleteAclsFilterResult)


@dataclass(slots=True, kw_only=True)
class UserName:
    name: str = string()


@dataclass(slots=True, kw_only=True)
class DescribeUserScramCredentialsRequest(Message):
    """DescribeUserScramCredentials (key 50) request, version 0."""

    API_KEY = 50
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    users: list[UserName] | None = array(UserName, nullable_since=0)


@dataclass(slots=True, kw_only=True)
class CredentialInfo:
    mechanism: int = int8()
    iterations: int = int32()


@dataclass(slots=True, kw_only=True)
class DescribeUserScramCredentialsResult:
    user: str = string()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    credential_infos: list[CredentialInfo] = array(CredentialInfo)


@dataclass(slots=True, kw_only=True)
class DescribeUserScramCredentialsResponse(Message):
    """DescribeUserScramCredentials (key 50) response, version 0."""

    API_KEY = 50
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    results: list[DescribeUserScramCredentialsResult] = array(DescribeUserScramCredentialsResult)


@dataclass(slots=True, kw_only=True)
class ScramCredentialDeletion:
    name: str = string()
    mechanism: int = int8()


@dataclass(slots=True, kw_only=True)
class ScramCredentialUpsertion:
    name: str = string()
    mechanism: int = int8()
    iterations: int = int32()
    salt: bytes = binary()
    salted_password: bytes = binary()


@dataclass(slots=True, kw_only=True)
class AlterUserScramCredentialsRequest(Message):
    """AlterUserScramCredentials (key 51) request, version 0."""

    API_KEY = 51
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    deletions: list[ScramCredentialDeletion] = array(ScramCredentialDeletion)
    upsertions: list[ScramCredentialUpsertion] = array(ScramCredentialUpsertion)


@dataclass(slots=True, kw_only=True)
class AlterUserScramCredentialsResult:
    user: str = string()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class AlterUserScramCredentialsResponse(Message):
    """AlterUserScramCredentials (key 51) response, version 0."""

    API_KEY = 51
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    results: list[AlterUserScramCredentialsResult] = array(AlterUserScramCredentialsResult)
