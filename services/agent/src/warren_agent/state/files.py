"""Files that only the agent may read: mode 0600, replaced as a whole or not at all."""

from pathlib import Path

from warren_process.atomic_file import write_atomically


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, and make its folder (0700) if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, data)


def read_private(path: Path) -> bytes | None:
    """The content of `path`; None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
