"""Dropping privileges once everything is open (capabilities(7), prctl(2)).

The data process parses what anyone on the network sends, and needs no privilege for it: its TUN device and its sockets
were opened by others. It changes to an unprivileged user, gives up all capabilities for good, can gain none by executing a
file, and leaves no core file and no way to be traced by other processes of its user, since it holds keys.
"""

import contextlib
import ctypes
import errno
import os
import resource
import struct
from collections.abc import Collection
from pathlib import Path

NOBODY = 65534
KILL, SETGID, SETUID, SETPCAP = 5, 6, 7, 8
"""Numbers of capabilities (linux/capability.h)."""
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_CAPGET_CAPSET = {"x86_64": (125, 126), "aarch64": (90, 91)}
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")


def drop_privileges(user: int | None, keep: Collection[int] = ()) -> None:
    """Change to `user` (None: stay) and give up all capabilities but `keep`. Raises `OSError` if a step fails.

    A process that has only some capabilities, as in a user namespace that maps one user, stays that user.
    """
    with contextlib.suppress(OSError):  # without CAP_SETPCAP there is nothing to give up either
        for capability in range(int(_LAST_CAPABILITY.read_text()) + 1):
            if capability not in keep:
                _prctl(_PR_CAPBSET_DROP, capability)
    if user is not None and os.geteuid() == 0:
        _change_user(user)
    _limit_capabilities(_libc(), keep)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    protect_memory()


def protect_memory() -> None:
    """Write no core file, and keep other processes of this user from reading this one's memory: it holds keys. Raises `OSError`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(*arguments: int) -> None:
    if _libc().prctl(*(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:5])) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _change_user(user: int) -> None:
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError as error:
        # a user namespace that maps one user only: its root has no more rights outside of it than that user
        if error.errno not in (errno.EINVAL, errno.EPERM) or _is_mapped(user):
            raise


def _is_mapped(user: int) -> bool:
    """Whether the user namespace of this process has this user id (user_namespaces(7))."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(int(first) <= user < int(first) + int(count) for first, _, count in ranges)


def _limit_capabilities(libc: ctypes.CDLL, keep: Collection[int]) -> None:
    """capget(2) and capset(2) by their numbers: glibc has no wrappers for them. What is not held cannot be kept."""
    numbers = _SYS_CAPGET_CAPSET.get(os.uname().machine)
    if numbers is None:
        raise OSError("capset(2) is not known for this machine")
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    if libc.syscall(ctypes.c_long(numbers[0]), header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    held = struct.unpack("<6I", data.raw[:24])  # effective, permitted, inheritable of the lower 32, then of the upper
    kept = sum(1 << capability for capability in keep) & held[1]
    limited = ctypes.create_string_buffer(struct.pack("<6I", kept, kept, 0, 0, 0, 0))
    if libc.syscall(ctypes.c_long(numbers[1]), header, limited) != 0:
        raise OSError(ctypes.get_errno(), "capset")
