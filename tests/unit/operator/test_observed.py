"""Whether a live object already is as desired: what others added does not count, what is ours does."""

import pytest

from automq_operator.observed import satisfied


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        (
            {"ports": [{"name": "x", "port": 1}]},
            {"ports": [{"name": "y", "port": 2}, {"name": "x", "port": 1, "nodePort": 3}]},
        ),
        ({"cpu": "1000m"}, {"cpu": "1"}),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}),
        ({"cpu": 2}, {"cpu": "2"}),
        ({"spec": {}}, {}),
        ({"command": ["a", "b"]}, {"command": ["a", "b"]}),
    ],
)
def test_satisfied(desired: object, live: object) -> None:
    assert satisfied(desired, live)


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"a": 1}, {}),
        ({"a": {"b": 1}}, {"a": {"b": 2}}),
        ({"ports": [{"name": "x", "port": 1}]}, {"ports": [{"name": "x", "port": 2}]}),
        ({"cpu": "1001m"}, {"cpu": "1"}),
        ({"command": ["a", "b"]}, {"command": ["b", "a"]}),
        ({"on": True}, {"on": "True"}),
    ],
)
def test_not_satisfied(desired: object, live: object) -> None:
    assert not satisfied(desired, live)
