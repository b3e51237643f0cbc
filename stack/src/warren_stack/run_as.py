"""Run a command as another user."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PASSWD = Path("/etc/passwd")


@dataclass(frozen=True)
class User:
    """Whom a process runs as. `passwd` is a file with this user where the machine's has none: shown to the process instead."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    passwd: Path | None = None


NOBODY = User(65534, 65534)
"""Debian's nobody:nogroup. Shared by many daemons: what has a key or data has a uid of its own (`users`)."""


def run_as(user: User, command: Sequence[str], needed: Sequence[Path] = ()) -> list[str]:
    """`command` as `user`, for a process that is root.

    `needed` folders that the user cannot reach (an installation under /root) are shown to it in a mount namespace of its
    own: an empty folder hides the closed parent, the needed one is bound at its own path. Nothing outside changes: no
    mode of a parent folder, no new user.
    """
    groups = f"--groups={','.join(map(str, user.groups))}" if user.groups else "--clear-groups"
    drop = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", groups, "--", *command]
    hidden = [(path, closed) for path in _outermost(needed) if (closed := _closed_ancestor(path)) is not None]
    steps = [f"mount --no-mtab --bind {shlex.quote(str(user.passwd))} {PASSWD}"] if user.passwd is not None else []
    steps += _shown(hidden)  # may hide the folder of the passwd file
    if not steps:
        return drop
    script = "\n".join(["set -e", *steps, "cd /", f"exec {shlex.join(drop)}"])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def _shown(hidden: Sequence[tuple[Path, Path]]) -> list[str]:
    """The steps that show each path, and hide the rest of its closed ancestor."""
    if not hidden:
        return []
    steps = ["hold=$(mktemp -d)"]
    for index, (path, _) in enumerate(hidden):
        steps += [f"mkdir $hold/{index}", f"mount --no-mtab --bind {shlex.quote(str(path))} $hold/{index}"]
    for closed in dict.fromkeys(closed for _, closed in hidden):
        steps.append(f"mount --no-mtab -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}")
    for index, (path, _) in enumerate(hidden):
        here = shlex.quote(str(path))
        steps += [f"mkdir -p {here}", f"mount --no-mtab --move $hold/{index} {here}", f"rmdir $hold/{index}"]
    return [*steps, "rmdir $hold"]


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Without those that lie in another one of them, and each once."""
    unique = list(dict.fromkeys(paths))
    return [path for path in unique if not any(other in path.parents for other in unique)]


def _closed_ancestor(path: Path) -> Path | None:
    """The topmost folder above `path` that others may not enter."""
    return next((folder for folder in reversed(path.parents) if not os.stat(folder).st_mode & 0o001), None)
