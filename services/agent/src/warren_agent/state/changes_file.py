"""`changes.json`: changes that are not confirmed, and those that were rolled back, so that a killed agent still takes them back."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from warren_agent.domain.changes import ChangePhase, PendingChange
from warren_agent.state.files import read_private, write_private
from warren_contracts.tunnel import Tunnel


class StoredChange(BaseModel, defer_build=True):
    """One change. `former` is a Tunnel, validated when it is read: most files contain none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    former: dict[str, Any] | None
    refused: str
    version: tuple[int, int]
    phase: ChangePhase
    retried: bool = False
    detail: str = ""


class ChangesFile:
    """Reads and writes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[PendingChange]:
        """The changes; none if there is no file.

        Raises:
            ValueError: the file is damaged.
            OSError: it cannot be read.
        """
        data = read_private(self._path)
        try:
            stored = [] if data is None else TypeAdapter(list[StoredChange]).validate_json(data)
            return [
                PendingChange(
                    it.name, None if it.former is None else Tunnel.model_validate(it.former), it.refused, it.version,
                    it.phase, it.retried, it.detail,
                )
                for it in stored
            ]  # fmt: skip
        except ValidationError as error:
            raise ValueError(f"{self._path} is damaged: {error.error_count()} errors") from None

    def write(self, changes: list[PendingChange]) -> None:
        """Replace the file; without changes it is removed. OSError if the disk does not take it."""
        if not changes:
            self._path.unlink(missing_ok=True)
            return
        stored = [
            StoredChange(
                name=it.name, former=None if it.former is None else it.former.model_dump(mode="json"), refused=it.refused,
                version=it.version, phase=it.phase, retried=it.retried, detail=it.detail,
            )
            for it in changes
        ]  # fmt: skip
        write_private(self._path, TypeAdapter(list[StoredChange]).dump_json(stored))
