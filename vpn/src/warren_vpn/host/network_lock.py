"""One client a network namespace, whatever its state folder is.

Rules, routes and the table of the kill switch have fixed places there. A second client would take them away from the first one at
its end, whose packets would then leave in clear.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from warren_vpn.host.errors import ClientRunningError

PATH = Path("/run/warren-vpn-client.lock")
_NAMESPACE = Path("/proc/self/ns/net")


@contextmanager
def hold_network(path: Path = PATH) -> Iterator[None]:
    """Hold the lock of this process's network namespace. ClientRunningError: another client has it.

    One file for all namespaces, of which each has the byte at its number. Others than root cannot make it, nor therefore hold it;
    a client without that right goes without.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _NAMESPACE.stat().st_ino)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            raise ClientRunningError from None
        yield
    finally:
        os.close(descriptor)
