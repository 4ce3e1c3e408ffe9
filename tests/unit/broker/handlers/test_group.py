"""Group requests in every version: what older clients are told in other words, and errors in their places."""

import pytest

from automq.coordinators.group.coordinator import OFFSETS_TOPIC, GroupCoordinator
from automq.handlers.group import (
    HANDLERS,
    handle_delete_groups,
    handle_describe_groups,
    handle_find_coordinator,
    handle_heartbeat,
    handle_join_group,
    handle_leave_group,
    handle_list_groups,
    handle_sync_group,
)
from automq.handlers.operations import all_operations
from automq.protocol.codec import encode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.group import (
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
    LeaveGroupRequest,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from automq.protocol.messages.group_admin import DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest
from automq.protocol.messages.offset import OffsetCommitRequest
from automq.security.authorizer import ResourceType
from tests.support.coordinator_world import a_coordinator
from tests.support.handler_world import NODE, context_of, image_of

IMAGE = image_of({OFFSETS_TOPIC: 2, "t": 2}, internal=[OFFSETS_TOPIC])


def a_join(member_id: str = "") -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id="g",
        session_timeout=10_000,
        rebalance_timeout=60_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"m")],
    )


async def join(groups: GroupCoordinator, version: int) -> JoinGroupResponse:
    """Join as a client of `version` does: twice, where the member id must be known."""
    context = context_of(IMAGE, version=version, groups=groups)
    response = await handle_join_group(context, a_join())
    if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        assert version >= 4
        encode(response, version)
        response = await handle_join_group(context, a_join(response.member_id))
    return response


@pytest.mark.parametrize("version", FindCoordinatorRequest.VERSIONS)
async def test_the_coordinator_is_named_at_the_listener_of_the_request(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=version, listener="OUTSIDE", groups=groups)
        response = await handle_find_coordinator(context, FindCoordinatorRequest(key="g", coordinator_keys=["g", ""]))
    encode(response, version)
    if version < 4:
        assert (response.node_id, response.host, response.port) == (NODE, "public.example", 443)
        return
    first, second = response.coordinators
    assert (first.key, first.node_id, first.host, first.port) == ("g", NODE, "public.example", 443)
    # As in Kafka, a group without a name has one, too.
    assert (second.key, second.node_id, second.error_code) == ("", NODE, ErrorCode.NONE)


@pytest.mark.parametrize("version", [1, 4])
async def test_a_transactional_id_is_refused_with_a_sentence(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=version, groups=groups)
        request = FindCoordinatorRequest(key="x", key_type=1, coordinator_keys=["x"])
        response = await handle_find_coordinator(context, request)
    found = response.coordinators[0] if version >= 4 else response
    assert found.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert found.error_message is not None
    assert "not supported yet" in found.error_message


async def test_a_listener_the_coordinator_does_not_have_is_no_way_to_it() -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=4, listener="OTHER", groups=groups)
        response = await handle_find_coordinator(context, FindCoordinatorRequest(coordinator_keys=["g"]))
    assert response.coordinators[0].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


@pytest.mark.parametrize("version", JoinGroupRequest.VERSIONS)
async def test_a_member_lives_in_every_version(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        joined = await join(groups, version)
        encode(joined, version)
        assert (joined.error_code, joined.generation_id, joined.leader) == (0, 1, joined.member_id)
        assert [(member.member_id, member.metadata) for member in joined.members] == [(joined.member_id, b"m")]
        assert joined.member_id.startswith("test-")

        sync_version = min(version, 5)
        assignment = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"all")
        synced = await handle_sync_group(
            context_of(IMAGE, version=sync_version, groups=groups),
            SyncGroupRequest(
                group_id="g",
                generation_id=1,
                member_id=joined.member_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=[assignment],
            ),
        )
        encode(synced, sync_version)
        assert synced.assignment == b"all"

        beat_version = min(version, 4)
        beat = await handle_heartbeat(
            context_of(IMAGE, version=beat_version, groups=groups),
            HeartbeatRequest(group_id="g", generation_id=1, member_id=joined.member_id),
        )
        encode(beat, beat_version)
        assert beat.error_code == ErrorCode.NONE

        leave_version = min(version, 5)
        left = await handle_leave_group(
            context_of(IMAGE, version=leave_version, groups=groups),
            LeaveGroupRequest(
                group_id="g",
                member_id=joined.member_id if leave_version < 3 else "",
                members=[MemberIdentity(member_id=joined.member_id)] if leave_version >= 3 else [],
            ),
        )
        encode(left, leave_version)
        assert left.error_code == ErrorCode.NONE
        assert (await groups.describe_group("g")).group_state == "Empty"


@pytest.mark.parametrize("version", JoinGroupRequest.VERSIONS)
async def test_errors_of_a_join_can_be_said_in_every_version(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=version, groups=groups)
        request = a_join("nobody")
        response = await handle_join_group(context, request)
        encode(response, version)
        assert response.error_code == ErrorCode.UNKNOWN_MEMBER_ID
        request.session_timeout = 1
        response = await handle_join_group(context, request)
        encode(response, version)
        assert response.error_code == ErrorCode.INVALID_SESSION_TIMEOUT


async def test_newer_versions_must_name_the_protocol_they_sync() -> None:
    async with a_coordinator(IMAGE) as groups:
        joined = await join(groups, 9)
        request = SyncGroupRequest(group_id="g", generation_id=1, member_id=joined.member_id, protocol_name="range")
        for version, code in [(4, ErrorCode.NONE), (5, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)]:
            synced = await handle_sync_group(context_of(IMAGE, version=version, groups=groups), request)
            assert synced.error_code == code


async def test_older_leavers_are_answered_with_their_own_error() -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=2, groups=groups)
        left = await handle_leave_group(context, LeaveGroupRequest(group_id="g", member_id="nobody"))
        assert left.error_code == ErrorCode.UNKNOWN_MEMBER_ID


async def test_errors_of_the_whole_request_are_at_its_top() -> None:
    async with a_coordinator(IMAGE) as groups:
        context = context_of(IMAGE, version=0, groups=groups)
        beat = await handle_heartbeat(context, HeartbeatRequest(group_id=""))
        assert beat.error_code == ErrorCode.INVALID_GROUP_ID
        synced = await handle_sync_group(context, SyncGroupRequest(group_id=""))
        assert synced.error_code == ErrorCode.INVALID_GROUP_ID
        left = await handle_leave_group(context, LeaveGroupRequest(group_id=""))
        assert left.error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize("version", DescribeGroupsRequest.VERSIONS)
async def test_groups_are_described_in_every_version(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        joined = await join(groups, 9)
        request = DescribeGroupsRequest(groups=["g", "none"], include_authorized_operations=version >= 3)
        response = await handle_describe_groups(context_of(IMAGE, version=version, groups=groups), request)
        encode(response, version)
    found, missing = response.groups
    assert found.group_state == "CompletingRebalance"
    assert [member.member_id for member in found.members] == [joined.member_id]
    assert found.members[0].client_host == "/127.0.0.1"
    assert missing.group_state == "Dead"
    assert missing.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE)
    if version >= 3:
        assert found.authorized_operations == all_operations(ResourceType.GROUP)


@pytest.mark.parametrize("version", ListGroupsRequest.VERSIONS)
async def test_groups_are_listed_in_every_version(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        await groups.offset_commit(OffsetCommitRequest(group_id="g"), knows_group_errors=True)
        await join(groups, 9)
        context = context_of(IMAGE, version=version, groups=groups)
        response = await handle_list_groups(context, ListGroupsRequest(types_filter=["Classic"], states_filter=[]))
        encode(response, version)
        assert [(group.group_id, group.protocol_type) for group in response.groups] == [("g", "consumer")]
        response = await handle_list_groups(context, ListGroupsRequest(states_filter=["STABLE"]))
        assert response.groups == []


@pytest.mark.parametrize("version", DeleteGroupsRequest.VERSIONS)
async def test_each_group_to_delete_has_its_own_answer(version: int) -> None:
    async with a_coordinator(IMAGE) as groups:
        await join(groups, 9)
        context = context_of(IMAGE, version=version, groups=groups)
        response = await handle_delete_groups(context, DeleteGroupsRequest(groups_names=["g", "none", "g"]))
        encode(response, version)
    assert [(result.group_id, ErrorCode(result.error_code)) for result in response.results] == [
        ("g", ErrorCode.NON_EMPTY_GROUP),
        ("none", ErrorCode.GROUP_ID_NOT_FOUND),
    ]


def test_every_group_request_is_handled() -> None:
    assert sorted(str(request.API_KEY) for request in HANDLERS) == sorted(map(str, [10, 11, 12, 13, 14, 15, 16, 42]))
