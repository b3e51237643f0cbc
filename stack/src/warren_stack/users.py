"""A uid for each part of the stack, where `warren up` runs as root.

No two parts share a uid, and none has `nobody`'s: a process may read the memory, the files and, through /proc/<pid>/root, the mounts
of every other one of its uid. The system users `warren-<part>` and the group `warren` are used where they exist (packages make them:
deploy/systemd/warren-users.conf). Otherwise each part gets a fixed uid that no user of the machine has, and sees a passwd file with its
name in a mount namespace of its own, so that nothing is added to the machine.
"""

import os
import pwd
import sys
from collections.abc import Iterable, Mapping
from grp import getgrnam
from pathlib import Path

from warren_stack.errors import LocalError
from warren_stack.run_as import PASSWD, ProcessUser

PARTS = ("nats", "postgres", "streams", "callout", "registry", "policy", "metrics", "api")
GROUP = "warren"  # whose members may connect to PostgreSQL's socket; the password decides about more
DATABASE_CLIENTS = ("postgres", "callout", "registry", "policy", "metrics")
FIRST_UID = 64_100  # above useradd's (60000) and below containers' (100000)
NOLOGIN = "/usr/sbin/nologin"


def part_users(folder: Path) -> Mapping[str, ProcessUser] | None:
    """The user of each part; None where this process is not root, and every part has its user.

    `folder` receives the passwd file that parts see, where the machine has no users for them.

    Raises:
        LocalError: only some of the users exist, or a uid of the fixed range belongs to somebody.
    """
    if os.geteuid() != 0:
        return None
    found = {part: entry for part in PARTS if (entry := _entry(f"warren-{part}")) is not None}
    if not found:
        return _own_users(folder)
    if missing := [f"warren-{part}" for part in PARTS if part not in found]:
        raise LocalError(
            f"the system users {', '.join(missing)} are missing: run systemd-sysusers with deploy/systemd/warren-users.conf"
        )
    try:
        group = getgrnam(GROUP).gr_gid
    except KeyError:
        raise LocalError(f"the group {GROUP} is missing: run `groupadd --system {GROUP}`") from None
    users = {part: ProcessUser(entry.pw_uid, entry.pw_gid, _groups(part, group)) for part, entry in found.items()}
    if len({user.uid for user in users.values()} | {0}) != len(PARTS) + 1:
        raise LocalError("the system users warren-<part> must have a uid each, and not 0")
    return users


def socket_group(users: Mapping[str, ProcessUser]) -> int:
    """The group of PostgreSQL's socket."""
    return users["postgres"].groups[0]


def give(folder: Path, user: ProcessUser | None) -> None:
    """Make a folder, and all that is in it, a part's own, if it is not yet: as after a start by an older release."""
    if user is None or (folder.stat().st_uid, folder.stat().st_gid) == (user.uid, user.gid):
        return
    for path in (*folder.rglob("*"), folder):  # the folder last: an interrupted start does it again
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def python_folders() -> tuple[Path, ...]:
    """What a service is read from: this interpreter, and every folder that it imports from."""
    folders = [Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path if entry)]
    return tuple(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def _own_users(folder: Path) -> Mapping[str, ProcessUser]:
    taken = {entry.pw_uid: entry.pw_name for entry in pwd.getpwall()}
    uids = {part: FIRST_UID + number for number, part in enumerate(PARTS, start=1)}
    if theirs := [f"{uid} ({taken[uid]})" for uid in uids.values() if uid in taken]:
        raise LocalError(
            f"the uids {', '.join(theirs)} are needed for parts of Warren: make the system users warren-<part> instead "
            "(systemd-sysusers with deploy/systemd/warren-users.conf)"
        )
    file = folder / "passwd"
    lines = [f"warren-{part}:x:{uid}:{uid}::/nonexistent:{NOLOGIN}\n" for part, uid in uids.items()]
    file.write_text(PASSWD.read_text() + "".join(lines))
    file.chmod(0o644)
    return {part: ProcessUser(uid, uid, _groups(part, FIRST_UID), file) for part, uid in uids.items()}


def _groups(part: str, group: int) -> tuple[int, ...]:
    return (group,) if part in DATABASE_CLIENTS else ()


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def share(folder: Path, files: Iterable[Path], user: ProcessUser) -> None:
    """A part's own folder with copies of the keys that it reads."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for stale in folder.iterdir():
        stale.unlink()
    for file in files:
        copy = folder / file.name
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(file.read_bytes())
        os.chown(copy, user.uid, user.gid)
    os.chown(folder, user.uid, user.gid)
