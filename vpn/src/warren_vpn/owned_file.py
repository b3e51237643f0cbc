"""Files of the server's folder, which belong to the user that the server runs as, also when root writes them."""

import errno
import os
from pathlib import Path

from warren_process.atomic_file import rename_durably, write_draft


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


def is_there(path: Path) -> bool:
    """Whether there is such a file, also where this user may not look: then an attempt to read it says so."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def reason_of(error: OSError) -> str:
    """Why a file of the server or the client cannot be used, with the remedy where there is one: they are root's, or the server's own."""
    remedy = "; run as root, or as the owner of the folder" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return f"{error.strerror}{remedy}"
