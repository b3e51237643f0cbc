"""Run a command in namespaces of its own."""

import shlex
from collections.abc import Sequence

USER_NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--mount")
"""The user stays itself (with --map-root-user PostgreSQL refuses to start) and keeps capabilities (unshare(1))."""

ROOT_NAMESPACES = ("unshare", "--net", "--mount")


def in_sandbox(command: Sequence[str], *, own_user_namespace: bool) -> list[str]:
    """`command` in network and mount namespaces of its own, with an empty /run and `lo` up.

    Without root, the user namespace gives the capabilities for it. What `ip netns add` makes inside ends with the sandbox.
    """
    unshare = USER_NAMESPACE if own_user_namespace else ROOT_NAMESPACES
    script = f"mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && exec {shlex.join(command)}"
    return [*unshare, "--propagation", "private", "sh", "-c", script]
