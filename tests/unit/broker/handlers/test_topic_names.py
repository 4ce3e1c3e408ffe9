"""Legal names of topics."""

import pytest

from automq.handlers.topic_names import check_topic_name
from automq.protocol.errors import ApiError, ErrorCode


@pytest.mark.parametrize("name", ["a", "a.b_c-1", "__consumer_offsets", "x" * 249, "..."])
def test_legal_name_passes(name: str) -> None:
    check_topic_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 250, "a b", "ü", "a/b", "a\n"])
def test_illegal_name_is_refused(name: str) -> None:
    with pytest.raises(ApiError) as refused:
        check_topic_name(name)
    assert refused.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION
