"""What makes a store of the benchmarks answer a PUT as late as a bucket does."""

import asyncio
from collections.abc import Sequence
from typing import Final

from automq.s3stream.ports import Buffer

PUT_S: Final = 0.050


class SlowPuts:
    """Before a store among the bases of a class: every body takes `PUT_S`, and what that store takes."""

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await asyncio.sleep(PUT_S)
        await super().put(key, body)  # type: ignore[misc]

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        await asyncio.sleep(PUT_S)
        await super().create(key, body)  # type: ignore[misc]

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        await asyncio.sleep(PUT_S)
        await super().create_bulk(key, body)  # type: ignore[misc]
