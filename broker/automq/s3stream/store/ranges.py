"""A long range of an object read bit by bit, whatever the store is."""

from automq.s3stream.ports import ObjectStorage, RangeReader, StreamsRanges


def open_range(store: ObjectStorage, key: str, start: int, end: int) -> RangeReader:
    """Bytes [start, end): by one request where the store can do that, else by one for each piece."""
    if isinstance(store, StreamsRanges):
        return store.open_range(key, start, end)
    return _Pieces(store, key, start, end)


class _Pieces:
    """Implements `RangeReader`."""

    def __init__(self, store: ObjectStorage, key: str, start: int, end: int) -> None:
        self._store = store
        self._key = key
        self._position = start
        self._end = end

    async def read_into(self, buffer: memoryview) -> int:
        wanted = min(len(buffer), self._end - self._position)
        if not wanted:
            return 0
        data = await self._store.get_range(self._key, self._position, self._position + wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        if len(data) < wanted:
            # The object ends here.
            self._end = self._position
        return len(data)

    def close(self) -> None:
        """Nothing is open between two pieces."""
