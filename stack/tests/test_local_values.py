"""The pure halves of `warren up`: pauses, logs, password verifiers, commands as another user."""

import base64
import hashlib
import hmac
import os
import resource
import stat
from pathlib import Path

import pytest

from warren_lab.runtime import make_runtime_folder
from warren_stack.database import scram_verifier
from warren_stack.errors import AlreadyRunningError, LocalError
from warren_stack.folders import DataFolder, write_secret
from warren_stack.logfile import RotatingLog
from warren_stack.parts import LONGEST_PAUSE_SECONDS, restart_pause
from warren_stack.postgres import Postgres


@pytest.mark.parametrize(("failures", "longest"), [(0, 0.2), (1, 0.4), (4, 3.2), (100, LONGEST_PAUSE_SECONDS)])
def test_restart_pause_doubles_with_jitter_up_to_a_limit(failures: int, longest: float) -> None:
    assert restart_pause(failures, lambda: 1.0) == pytest.approx(longest)
    assert restart_pause(failures, lambda: 0.0) == pytest.approx(longest / 2)


def test_rotating_log_keeps_whole_lines_and_a_limited_number_of_files(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log", max_bytes=10, kept=2)
    for number in range(8):
        log.write(f"line {number}\n".encode())
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["part.log", "part.log.1", "part.log.2"]
    assert (tmp_path / "part.log.1").read_text() == "line 6\nline 7\n"
    assert (tmp_path / "part.log.2").read_text() == "line 4\nline 5\n"


def test_rotating_log_returns_last_lines(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log")
    log.write(b"one\ntwo\nthree\n")
    assert log.last_lines(2) == ["two", "three"]
    log.close()


def test_rotating_log_on_a_full_disk_drops_what_it_is_given_and_says_so_once(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "part.log"
    path.symlink_to("/dev/full")
    log = RotatingLog(path, complain=said.append)
    log.write(b"one\n")
    log.write(b"two\n")
    log.close()
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert len(log.last_lines(1)) <= 1  # a device has no end, and is read as far as one line goes


def test_rotating_log_counts_what_was_lost_once_it_can_be_written_again(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "part.log"
    log = RotatingLog(path, complain=said.append)
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, held[1]))  # as a disk with six free bytes; Python ignores SIGXFSZ
    try:
        log.write(b"before\nlost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    log.write(b"after\n")
    log.close()
    assert path.read_text() == "before-- 6 bytes could not be written here\nafter\n"
    assert len(said) == 1


def test_rotating_log_that_cannot_be_rotated_is_written_all_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    log = RotatingLog(tmp_path / "part.log", max_bytes=8, kept=1, complain=said.append)
    obstacle = tmp_path / "part.log.1"
    obstacle.mkdir()
    log.write(b"line 1\nline 2\n")
    log.write(b"line 3\n")
    assert len(said) == 1
    obstacle.rmdir()
    log.write(b"line 4\n")
    log.close()
    assert obstacle.read_text() == "line 1\nline 2\nline 3\nline 4\n"


def test_scram_verifier_proves_the_password_without_holding_it() -> None:
    verifier = scram_verifier("pencil", b"salt" * 4, 4096)
    head, _, keys = verifier.rpartition("$")
    stored_key, server_key = (base64.b64decode(key) for key in keys.split(":"))
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", b"salt" * 4, 4096)
    assert hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == stored_key
    assert hmac.digest(salted, b"Server Key", "sha256") == server_key
    assert head == "SCRAM-SHA-256$4096:" + base64.b64encode(b"salt" * 4).decode()
    assert "pencil" not in verifier


def test_write_secret_replaces_whole_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, "old")
    write_secret(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_data_folder_is_private(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.create()
    data.create()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (data.path, data.log, data.keys, data.secrets)} == {0o700}


def test_runtime_folder_is_short_enough_for_sockets() -> None:
    folder = make_runtime_folder()
    try:
        assert len(os.fsencode(folder)) < 60
    finally:
        folder.rmdir()


def test_postgres_refuses_a_socket_path_past_107_bytes() -> None:
    with pytest.raises(LocalError, match="too long"):
        Postgres(Path("/data"), Path("/" + "x" * 100), Path("/data/secret"), None)


def test_errors_without_a_message_say_their_docstring() -> None:
    assert str(AlreadyRunningError()).startswith("Another `warren up` uses this data folder.")
