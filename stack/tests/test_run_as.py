"""What a process of another user sees of folders that are closed to it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from warren_lab.runtime import make_runtime_folder
from warren_stack.run_as import NOBODY, ProcessUser, run_as


def test_only_what_is_closed_is_shown_in_a_namespace() -> None:
    top = make_runtime_folder()
    try:
        open_folder, closed_folder = top / "open", top / "closed" / "inner"
        open_folder.mkdir()
        closed_folder.mkdir(parents=True)
        assert run_as(NOBODY, ["true"], [open_folder])[0] == "setpriv"
        closed_folder.parent.chmod(0o700)
        hiding = run_as(NOBODY, ["true"], [open_folder, closed_folder])
        assert hiding[0] == "unshare"
        assert str(closed_folder) in hiding[-1]
        assert str(open_folder) not in hiding[-1]
        own = os.stat(top)
        assert run_as(ProcessUser(own.st_uid, own.st_gid), ["true"], [closed_folder])[0] == "setpriv"
    finally:
        subprocess.run(["rm", "-r", top], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
@pytest.mark.parametrize("parent_mode", [0o700, 0o755])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_data_folder_next_to_the_script_is_reached_and_nothing_else_of_it(parent_mode: int, umask: int) -> None:
    """A service of `warren up` needs its keys, and the script's folder, which is on the interpreter's path and holds the data folder."""
    top = make_runtime_folder()
    try:
        parent = top / "parent"
        script, keys, others = (
            parent / "script",
            parent / "script" / "data" / "parts" / "api",
            parent / "script" / "data" / "root",
        )
        for folder in (parent, script, keys, others):
            folder.mkdir(parents=True)
        (script / "module.py").write_text("module")
        (keys / "seed").write_text("seed")
        (others / "seed").write_text("secret")
        for path in (keys, keys / "seed"):
            os.chown(path, NOBODY.uid, NOBODY.gid)
            path.chmod(0o700)
        (script / "data").chmod(0o700)
        parent.chmod(parent_mode)
        command = ["sh", "-c", f"cat {script}/module.py {keys}/seed; ls {script}/data; umask"]
        for needed in ([keys, script], [script, keys]):
            assert output_of(command, needed, umask).split() == ["moduleseed" + "parts", f"{umask:04o}"]
        assert (others / "seed").read_text() == "secret"
        assert (script / "data").stat().st_mode & 0o777 == 0o700
    finally:
        subprocess.run(["rm", "-r", top], check=True)


def output_of(command: Sequence[str], needed: Sequence[Path], umask: int) -> str:
    done = subprocess.run(
        run_as(NOBODY, command, needed), capture_output=True, text=True, timeout=60, check=False, umask=umask
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
