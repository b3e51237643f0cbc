"""Run a command as another user."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PASSWD = Path("/etc/passwd")


@dataclass(frozen=True)
class ProcessUser:
    """Whom a process runs as. `passwd` is a file with this user where the machine's has none: shown to the process instead."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    passwd: Path | None = None


NOBODY = ProcessUser(65534, 65534)
"""Debian's nobody:nogroup. Shared by many daemons: what has a key or data has a uid of its own (`users`)."""


def run_as(user: ProcessUser, command: Sequence[str], needed: Sequence[Path] = ()) -> list[str]:
    """`command` as `user`, for a process that is root.

    `needed` folders that the user cannot reach (an installation under /root) are shown to it in a mount namespace of its
    own: an empty folder hides the closed parent, the needed one is bound at its own path. Nothing outside changes: no
    mode of a parent folder, no new user.
    """
    groups = f"--groups={','.join(map(str, user.groups))}" if user.groups else "--clear-groups"
    drop = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", groups, "--", *command]
    hidden = _hidden(user, needed)
    steps = [f"mount --no-mtab --bind {shlex.quote(str(user.passwd))} {PASSWD}"] if user.passwd is not None else []
    steps += _shown(hidden)  # may hide the folder of the passwd file
    if not steps:
        return drop
    script = "\n".join(["set -e", *steps, "cd /", f"exec {shlex.join(drop)}"])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def _shown(hidden: Sequence[tuple[Path, Path]]) -> list[str]:
    """The steps that show each path, outer ones first, and hide the rest of its closed ancestor."""
    if not hidden:
        return []
    # whatever our own mask is, the user has to get through the folders that are made here
    steps = ["mask=$(umask)", "umask 022", "hold=$(mktemp -d)"]
    for index, (path, _) in enumerate(hidden):
        steps += [f"mkdir $hold/{index}", f"mount --no-mtab --bind {shlex.quote(str(path))} $hold/{index}"]
    emptied: set[Path] = set()
    for index, (path, closed) in enumerate(hidden):
        if closed not in emptied:
            emptied.add(closed)
            steps.append(f"mount --no-mtab -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}")
        here = shlex.quote(str(path))
        steps += [f"mkdir -p {here}", f"mount --no-mtab --move $hold/{index} {here}", f"rmdir $hold/{index}"]
    return [*steps, "rmdir $hold", "umask $mask"]


def _hidden(user: ProcessUser, paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The paths that the user cannot reach, outer ones first, each with the topmost folder above it that is closed to the user.

    A path within another one, as a data folder next to the script that starts the stack, is seen through that: only the folders
    between them count.
    """
    ordered = sorted(dict.fromkeys(paths), key=_depth)
    hidden: list[tuple[Path, Path]] = []
    for index, path in enumerate(ordered):
        outer = max((other for other in ordered[:index] if other in path.parents), default=None, key=_depth)
        above = [
            folder for folder in reversed(path.parents) if outer is None or folder == outer or outer in folder.parents
        ]
        closed = next((folder for folder in above if not _may_enter(user, folder)), None)
        if closed is not None:
            hidden.append((path, closed))
    return hidden


def _depth(path: Path) -> int:
    return len(path.parts)


def _may_enter(user: ProcessUser, folder: Path) -> bool:
    status = os.stat(folder)
    if status.st_uid == user.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid in (user.gid, *user.groups):
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)
