"""The quick start of docs/vpn.md, each of its lines, with the real server and the real client in namespaces."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from warren_lab.process import stop_process, wait_until
from warren_testkit.lab.vpn_bed import INSIDE, OUTSIDE, SERVER, VpnBed, make_vpn_bed

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
DOCUMENT = Path(__file__).parents[3] / "docs" / "vpn.md"
PASSWORD = "correct horse battery"
LIMIT_SECONDS = 120.0
PROGRAM = (sys.executable, "-c", "from warren_vpn.commands import app; app()")


def quick_start() -> list[list[str]]:
    """The commands, as words."""
    section = DOCUMENT.read_text().split("## Quick start\n")[1].split("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^# (.+)$", section, re.MULTILINE)]


@pytest.fixture
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed() as made:
        for file in made.folder.iterdir():
            file.unlink()
        yield made


class Reader:
    """Follows the quick start. The server's name is not in any DNS, so its address is used; files are in the bed's folder."""

    def __init__(self, bed: VpnBed) -> None:
        self.bed = bed
        self.space = bed.namespace_of("alice")
        self.home = bed.lab.folder / "alice"
        self.home.mkdir()
        (self.home / "resolv.conf").write_text("nameserver 192.0.2.53\n")
        self.client: subprocess.Popen[bytes] | None = None

    def follow(self, words: list[str]) -> None:
        """Do one line."""
        words = [word.replace("vpn.example.org", SERVER) for word in words]
        files = self.bed.folder
        more: Mapping[str, list[str]] = {
            "warren vpn server init": [str(files)],
            "warren vpn user add": ["--users", str(files / "users.json")],
            "warren vpn profile create": ["--config", str(files / "server.toml"), "--out", str(self.home)],
            "warren vpn server run": [],
            "warren vpn client": [],
        }
        if words[:2] == ["pip", "install"]:
            assert words[2:] == ["warren-vpn"]
            return
        verb = next(verb for verb in more if " ".join(words).startswith(verb))
        if verb == "warren vpn server run":
            assert words == shlex.split(verb)
            self.bed.start()
        elif verb == "warren vpn client":
            self._connect(words[3:])
        else:
            done = subprocess.run(
                [*PROGRAM, *words[2:], *more[verb]], input=f"{PASSWORD}\n", capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr

    def _connect(self, options: list[str]) -> None:
        """The client in its namespace; the password is on standard input."""
        where = ["--state", str(self.home / "state"), "--resolv-conf", str(self.home / "resolv.conf"), "--json"]
        with (self.home / "out").open("wb") as out, (self.home / "err").open("wb") as err:
            self.client = subprocess.Popen(
                self.space.argv([*PROGRAM, "client", *options, *where]), cwd=self.home, stdin=subprocess.PIPE, stdout=out,
                stderr=err, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        assert self.client.stdin is not None
        self.client.stdin.write(f"{PASSWORD}\n".encode())
        self.client.stdin.close()

    def reaches(self, target: str) -> bool:
        """Whether a packet and its answer pass."""
        done = subprocess.run(
            self.space.argv(["ping", "-n", "-c", "1", "-W", "1", target]), capture_output=True, check=False
        )
        return done.returncode == 0

    def said(self) -> str:
        """What the client has printed."""
        return (self.home / "out").read_text() + (self.home / "err").read_text()


def test_the_quick_start_works_line_by_line(bed: VpnBed) -> None:
    """Two lines of pip, five verbs; then all traffic of the client goes through the tunnel."""
    reader = Reader(bed)
    commands = quick_start()
    assert len(commands) <= 10
    try:
        for words in commands:
            reader.follow(words)
        assert reader.client is not None
        try:
            wait_until(
                lambda: reader.reaches("10.66.0.1"), "an answer of the server inside", LIMIT_SECONDS, reader.client.pid
            )
        except Exception as error:
            raise AssertionError(f"{error}: {reader.said()}{bed.log[-2000:]}") from error
        for target in (OUTSIDE[4], OUTSIDE[6]):
            wait_until(partial(reader.reaches, target), f"an answer of {target}: {reader.said()}", LIMIT_SECONDS)
        (session,) = bed.status().sessions
        assert (session.user, session.login) == ("alice", "eap-gtc")
        (line,) = (bed.folder / "logins.jsonl").read_text().splitlines()
        assert json.loads(line)["result"] == "accepted"
        assert PASSWORD not in reader.said() + bed.log
    finally:
        if reader.client is not None:
            assert stop_process(reader.client, limit_seconds=LIMIT_SECONDS) == 0
        if bed.process is not None:
            assert bed.stop() == 0
    assert INSIDE[4] not in reader.space.run("ip", "route", "show", "table", "all")
