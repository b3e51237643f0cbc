"""F9: the documented backup wrote the trust root with mode 0644, for every user of the machine."""

import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warren_cli.main import app
from warren_stack.backup import back_up
from warren_stack.errors import AlreadyRunningError, LocalError
from warren_stack.folders import DataFolder, write_secret
from warren_stack.lock import exclusive
from warren_trust.keys import create_keys

DOCS = Path(__file__).parents[2] / "docs"
# A redirection into a file, or an archive that is written.
WRITES = re.compile(r"(?<![0-9&])> *[\w./-]+\.(?:tar|sql|token|pass|seed)\b")


def shell_blocks() -> list[tuple[str, str]]:
    """Every block of every page that writes a file of secrets by the shell."""
    found = []
    for page in [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"]:
        text = page.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        blocks += re.findall(r"(?:^    .*\n)+", plain, re.MULTILINE)
        found += [(page.name, block) for block in blocks if WRITES.search(block)]
    return found


def test_there_are_such_blocks() -> None:
    assert {"deploy.md"} <= {page for page, _ in shell_blocks()}


@pytest.mark.parametrize(("page", "block"), shell_blocks())
def test_what_a_documented_line_writes_is_for_its_owner(page: str, block: str, tmp_path: Path) -> None:
    """The lines as they are, in a shell with the usual umask; the programs that they run print something."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("docker", "docker-compose", "warren", "pg_dump", "sudo"):
        (programs / name).write_text("#!/bin/sh\necho secret\n")
        (programs / name).chmod(0o755)
    folder = tmp_path / "here"
    folder.mkdir()
    writing = [line for line in block.splitlines() if not WRITES.search(line) or "<" not in line]
    subprocess.run(
        ["sh", "-c", "umask 022\n" + "\n".join(writing)], cwd=folder, check=False, timeout=60, capture_output=True,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )  # fmt: skip
    written = [path for path in folder.iterdir() if path.is_file()]
    assert written, (page, block)
    assert not [path.name for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077]


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    create_keys(folder.keys)
    write_secret(folder.secrets / "pg-policy.pass", "secret\n")
    write_secret(folder.token, "wo1_secret\n")
    folder.postgres.mkdir(mode=0o700)
    (folder.postgres / "PG_VERSION").write_text("18\n")
    return folder


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_command_writes_a_private_file_under_any_umask(data: DataFolder, tmp_path: Path, umask: int) -> None:
    output = tmp_path / "backup.tar"
    before = os.umask(umask)
    try:
        result = CliRunner().invoke(app, ["deploy", "backup", "--data", str(data.path), "--output", str(output)])
    finally:
        os.umask(before)
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    with tarfile.open(output) as archive:
        names = set(archive.getnames())
        assert {"keys/root.seed", "secrets/pg-policy.pass", "admin.token", "postgres/PG_VERSION"} <= names
        assert archive.getmember("keys/root.seed").mode == 0o600


def test_the_command_follows_no_link_and_overwrites_nothing(data: DataFolder, tmp_path: Path) -> None:
    """Another user of the folder could place a link there, and own the file that is written."""
    theirs = tmp_path / "theirs"
    (tmp_path / "backup.tar").symlink_to(theirs)
    with pytest.raises(LocalError, match="does not exist yet"):
        back_up(data, tmp_path / "backup.tar")
    assert not theirs.exists()
    (tmp_path / "old.tar").write_text("old")
    with pytest.raises(LocalError):
        back_up(data, tmp_path / "old.tar")
    assert (tmp_path / "old.tar").read_text() == "old"


def test_the_command_refuses_a_running_stack(data: DataFolder, tmp_path: Path) -> None:
    with exclusive(data), pytest.raises(AlreadyRunningError):
        back_up(data, tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()


def test_the_command_refuses_another_folder(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="not the data folder"):
        back_up(DataFolder(tmp_path), tmp_path / "backup.tar")
