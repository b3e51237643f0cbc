"""Files that are replaced as a whole or not at all, also by a power failure: the only implementation."""

import contextlib
import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` with `data`: a reader, also after a crash, finds the old or the new content.

    Raises:
        OSError: the disk does not take it; the former file stands, and nothing else is left.
    """
    new = write_draft(path, data, mode)
    try:
        rename_durably(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise


def write_draft(path: Path, data: bytes, mode: int = 0o600) -> Path:
    """Put `data` on disk under another name in `path`'s folder, and return that: the caller renames or removes it.

    Raises:
        OSError: the disk does not take it; nothing is left.
    """
    # Not by tempfile, which would cost an agent 0.6 MB: it imports shutil and with it three compressors.
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if mode != 0o600:
                new.chmod(mode)
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise
    return new


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file or a folder within one folder, and wait until that is on disk."""
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk: fsync of a file does not cover its name (fsync(2))."""
    if os.name != "posix":
        return  # Windows has no handle for it, and journals renames
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
