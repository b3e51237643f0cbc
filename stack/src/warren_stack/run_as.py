"""Run a command as another user."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    """Whom a process runs as."""

    uid: int
    gid: int


NOBODY = User(65534, 65534)
"""Debian's nobody:nogroup."""


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
