"""A fleet on a `warren up`: an operator's verbs, tokens, and gateways with an agent and no IPsec daemon."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from warren_lab.process import stop_process
from warren_testkit.agent.process import ENROL_TRIES
from warren_testkit.up import WARREN, Up

LIMIT_SECONDS = 120.0


class UpFleet:
    """A control plane and the files of its operators."""

    def __init__(self, up: Up, folder: Path) -> None:
        self.up, self.folder = up, folder

    def warren(self, *arguments: str, token: Path | None = None, code: int = 0) -> str:
        """Run an operator's verb, as administrator or with a token; its standard output."""
        environment = {
            **os.environ,
            "WARREN_URL": self.up.info["url"],
            "WARREN_CA_FILE": self.up.info["ca_file"],
            "WARREN_TOKEN_FILE": str(token or self.up.info["token_file"]),
        }
        done = subprocess.run(
            [WARREN, *arguments], env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def token(self, name: str, role: str, *options: str) -> Path:
        """The file of a new bearer token."""
        path = self.folder / f"{name}.token"
        self.warren("token", "operator", name, "--role", role, "--out", str(path), *options)
        return path

    @contextmanager
    def gateway(self, name: str, subnet: str, join: Path) -> Iterator[None]:
        """A gateway that has joined, with an agent and no IPsec daemon: its tunnels are down, and the reason is known."""
        state = self.folder / name
        own = ["--state", str(state), "--peer", name, "--endpoints", f"192.0.2.{ord(name[0])}", "--subnets", subnet]
        enrol = [WARREN, "enrol", "--nats", self.up.info["nats_url"], "--token-file", str(join), *own]
        _run_until_taken(enrol)
        absent = str(state / "charon.vici")
        with (self.folder / f"{name}.log").open("wb") as log:
            agent = subprocess.Popen([WARREN, "agent", "run", "--state", str(state), "--vici", absent], stderr=log)
            try:
                yield
            finally:
                stop_process(agent)


def _run_until_taken(command: Sequence[str | Path]) -> None:
    """Run a command that a control plane on a busy machine may answer too late; AssertionError with its words when it does again."""
    for _ in range(ENROL_TRIES):
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
        if done.returncode == 0:
            return
    raise AssertionError(done.stdout + done.stderr)
