"""`warren deploy backup`: what cannot be made again, in one file that only its owner may read."""

import os
import tarfile
from pathlib import Path

from warren_process.atomic_file import sync_folder
from warren_stack.errors import LocalError
from warren_stack.folders import DataFolder
from warren_stack.lock import exclusive

KEPT = ("keys", "secrets", "tls", "admin.token", "postgres")
"""Of DATA. Streams are filled again from PostgreSQL, and `parts` are copies of keys."""


def back_up(data: DataFolder, output: Path) -> int:
    """Write the archive, with owners and modes, and return its size. `warren up` must be stopped.

    The file is new and 0600 from its first byte, whatever the umask is: it contains the trust root.

    Raises:
        AlreadyRunningError: `warren up` runs on this folder.
        LocalError: no such folder, the file exists, or it cannot be written.
    """
    if not data.keys.is_dir():
        raise LocalError(f"{data.path} is not the data folder of `warren up`: name it with --data")
    with exclusive(data):
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LocalError(f"{output}: {error.strerror}; name a file that does not exist yet") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)  # a umask takes rights away only, but a default ACL may give some
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    for name in KEPT:
                        if (data.path / name).exists():
                            archive.add(data.path / name, arcname=name)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(output.parent)
        except OSError as error:
            output.unlink(missing_ok=True)
            raise LocalError(f"{output}: {error.strerror}") from None
        return output.stat().st_size
