"""A bounds-checked cursor over received bytes."""

from warren_ikev2.errors import MalformedMessageError


class ByteReader:
    """Takes bytes from the front; MalformedMessageError where there are too few."""

    __slots__ = ("_data", "_end", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0
        self._end = len(data)

    @property
    def remaining(self) -> int:
        """Bytes left."""
        return self._end - self._offset

    @property
    def offset(self) -> int:
        """Bytes taken."""
        return self._offset

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or count > self._end - self._offset:
            raise MalformedMessageError(f"{count} bytes expected, {self.remaining} left")
        start, self._offset = self._offset, self._offset + count
        return self._data[start : self._offset]

    def number(self, size: int) -> int:
        """The next `size` bytes as an unsigned number in network order."""
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining)

    def finish(self) -> None:
        """MalformedMessageError unless everything was taken."""
        if self.remaining:
            raise MalformedMessageError(f"{self.remaining} bytes too many")
