"""A uid for each container of `deploy/compose`: a process that leaves one finds no file of another that it may read.

`keys` and `certificates` are root with the single capability CAP_CHOWN: they give each file to its reader. compose.yaml and the image
have the same numbers (`stack/tests/test_deploy_values.py` compares them).
"""

import os
from pathlib import Path

from warren_process.atomic_file import rename_durably, write_draft

UIDS = {
    name: 10_011 + number
    for number, name in enumerate(
        (
            "nats", "postgres", "database", "streams", "callout", "registry", "policy", "metrics", "api",
            "prometheus", "grafana",
        )
    )
}  # fmt: skip
"""The uid and gid of each container but the two that are root; Grafana has data and no share."""


def share_out(shares: Path, name: str, files: dict[str, str]) -> None:
    """Write files to the folder of one container, readable for its user only. Raises OSError.

    The folder stays ours: its reader may not replace what is in it. Without root everything has our user.
    """
    folder = shares / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    uid = UIDS[name]
    if os.geteuid() == 0:
        take(folder)
        folder.chmod(0o750)
        os.chown(folder, 0, uid)
    for file, text in files.items():
        path = folder / file
        draft = write_draft(path, text.encode())
        if os.geteuid() == 0:
            os.chown(draft, uid, uid)
        rename_durably(draft, path)


def take(folder: Path) -> None:
    """Make a folder, and what is in it, root's, if it is another user's: as an earlier release left it."""
    _give(folder, 0)


def give_data(folder: Path, name: str) -> None:
    """Make a folder of data the user's who writes it, if it is not yet."""
    _give(folder, UIDS[name])


def _give(folder: Path, uid: int) -> None:
    if os.geteuid() != 0 or folder.stat().st_uid == uid:
        return
    _give_all(folder, uid)


def _give_all(folder: Path, uid: int) -> None:
    # CAP_CHOWN alone does not let root enter the folder of another user: it is ours first. It is given last, so that an
    # interrupted run does it again.
    os.chown(folder, 0, 0)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            _give_all(path, uid)
        else:
            os.chown(path, uid, uid, follow_symlinks=False)
    os.chown(folder, uid, uid)
