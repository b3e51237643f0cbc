"""Temporary folders for sockets."""

import tempfile
from pathlib import Path

LONGEST_BASE = 40
"""Bytes of a temporary folder's path that still leave space for sockets in it; a longer TMPDIR is not used."""


def make_runtime_folder(prefix: str = "warren-") -> Path:
    """A new folder with a short path, for sockets: theirs may have 107 bytes at most. Others may enter, not look."""
    base = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base if len(base) <= LONGEST_BASE else "/tmp"))  # noqa: S108
    folder.chmod(0o711)
    return folder
