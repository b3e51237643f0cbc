"""Files that only the agent may read: mode 0600, replaced as a whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` with `data`: a reader, also after a crash, finds the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def read_private(path: Path) -> bytes | None:
    """The content of `path`; None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
