"""Running a command as somebody with fewer rights: as another user, and in a user namespace of one's own."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

USER_NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--mount")
"""The user stays itself (with --map-root-user PostgreSQL refuses to start) and keeps capabilities (unshare(1))."""

ROOT_NAMESPACES = ("unshare", "--net", "--mount")


@dataclass(frozen=True)
class User:
    """Whom a process runs as."""

    uid: int
    gid: int


NOBODY = User(65534, 65534)
"""Debian's nobody:nogroup."""


def in_sandbox(command: Sequence[str], *, own_user_namespace: bool) -> list[str]:
    """`command` in network and mount namespaces of its own, with an empty /run and `lo` up.

    Without root, the user namespace gives the capabilities for it. What `ip netns add` makes inside ends with the sandbox.
    """
    unshare = USER_NAMESPACE if own_user_namespace else ROOT_NAMESPACES
    script = f"mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && exec {shlex.join(command)}"
    return [*unshare, "--propagation", "private", "sh", "-c", script]


def run_as(user: User, command: Sequence[str], needed: Sequence[Path] = ()) -> list[str]:
    """`command` as `user`, for a process that is root.

    `needed` folders that the user cannot reach (an installation under /root) are shown to it in a mount namespace of its
    own: an empty folder hides the closed parent, the needed one is bound at its own path. Nothing outside changes: no
    mode of a parent folder, no new user.
    """
    drop = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--", *command]
    hidden = [(path, closed) for path in needed if (closed := _closed_ancestor(path)) is not None]
    if not hidden:
        return drop
    steps = ["set -e", "hold=$(mktemp -d)"]
    for index, (path, _) in enumerate(hidden):
        steps += [f"mkdir $hold/{index}", f"mount --no-mtab --bind {shlex.quote(str(path))} $hold/{index}"]
    for closed in dict.fromkeys(closed for _, closed in hidden):
        steps.append(f"mount --no-mtab -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}")
    for index, (path, _) in enumerate(hidden):
        here = shlex.quote(str(path))
        steps += [f"mkdir -p {here}", f"mount --no-mtab --move $hold/{index} {here}", f"rmdir $hold/{index}"]
    steps += ["rmdir $hold", f"exec {shlex.join(drop)}"]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(steps)]


def _closed_ancestor(path: Path) -> Path | None:
    """The topmost folder above `path` that others may not enter."""
    return next((folder for folder in reversed(path.parents) if not os.stat(folder).st_mode & 0o001), None)
