"""Files of the server's folder, which belong to the user that the server runs as, also when root writes them."""

import os
from pathlib import Path

from warren_contracts.atomic_file import rename_durably, write_draft


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Replace a file as a whole. Written by root it belongs to the owner of its folder. OSError."""
    draft = write_draft(path, content, mode)
    try:
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.chown(draft, folder.st_uid, folder.st_gid)
        rename_durably(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
