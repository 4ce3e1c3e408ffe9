"""Both adapters run functions and hand exceptions back."""

import pytest

from automq.runtime.workers import InlineWorkers, ThreadWorkers, Workers


def fail() -> None:
    raise ValueError("broken")


@pytest.mark.parametrize("make", [ThreadWorkers, InlineWorkers])
async def test_result_and_exception_come_back(make: type[ThreadWorkers] | type[InlineWorkers]) -> None:
    workers: Workers = make()
    assert await workers.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ValueError, match="broken"):
        await workers.run(fail)
    workers.close()
