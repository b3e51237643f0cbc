"""The lab without root: the argv of a user namespace in which namespaces, TUN, PostgreSQL and charon all work."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

USER_NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--mount")
"""The user stays itself (with --map-root-user PostgreSQL refuses to start) and keeps capabilities (unshare(1))."""


def in_user_namespace(command: Sequence[str]) -> list[str]:
    """`command` in a user, network and mount namespace of its own, with an empty /run and `lo` up."""
    script = f"mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && exec {shlex.join(command)}"
    return [*USER_NAMESPACE, "sh", "-c", script]


def as_nobody(command: Sequence[str], needed: Sequence[Path]) -> list[str]:
    """`command` as `nobody`, for a root that wants to prove the form without root.

    `needed` folders that nobody cannot reach (an interpreter under /root) are shown to it in a private mount namespace:
    an empty folder hides the closed parent, the needed folder is bound at its own path. Nothing outside changes.
    """
    steps = ["set -e", "hold=$(mktemp -d)"]
    for index, path in enumerate(needed):
        closed = _closed_ancestor(path)
        if closed is None:
            continue
        here, parent = shlex.quote(str(path)), shlex.quote(str(closed))
        steps += [f"mkdir $hold/{index}", f"mount --no-mtab --bind {here} $hold/{index}"]
        steps += [f"mount --no-mtab -t tmpfs -o mode=755 tmpfs {parent}", f"mkdir -p {here}"]
        steps += [f"mount --no-mtab --move $hold/{index} {here}", f"rmdir $hold/{index}"]
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *command]
    steps += ["rmdir $hold", f"exec {shlex.join(drop)}"]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(steps)]


def _closed_ancestor(path: Path) -> Path | None:
    """The topmost folder on the way to `path` that others may not enter."""
    for folder in (*reversed(path.parents), path):
        if not os.stat(folder).st_mode & 0o001:
            return folder
    return None
