"""A running demo with the web page, and what an operator does to it from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from warren_cli.remote.server_trust import ServerTrust
from warren_stack.ports import choose_port

WARREN = str(Path(sys.executable).with_name("warren"))


@dataclass(frozen=True)
class Demo:
    """What `warren demo --keep` reports."""

    url: str
    token: str = field(repr=False)
    token_file: Path
    enter: tuple[str, ...]  # the command that enters its namespaces
    process: int  # id of `warren demo`

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """One call of the API. Raises httpx.HTTPStatusError."""
        trust = ServerTrust().next_to(self.token_file).context()
        headers = {"authorization": f"Bearer {token or self.token}"}
        with httpx.Client(base_url=self.url, headers=headers, verify=trust, trust_env=False, timeout=20) as client:
            reply = client.request(method, path, json=body)
            reply.raise_for_status()
            return reply.json()

    def sign_in_link(self, token: str = "") -> str:
        """A new link, for a token's role."""
        return f"{self.url}{self.call('POST', '/api/session/codes', token=token)['path']}"

    def viewer(self) -> str:
        """The bearer token of a new viewer."""
        name = f"viewer-{os.urandom(4).hex()}"
        token: str = self.call("POST", "/api/operator-tokens", {"name": name, "role": "viewer"})["token"]
        return token

    def run(self, *command: str) -> str:
        """Run a command inside the demo's namespaces."""
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True, timeout=30).stdout

    @contextmanager
    def api_suspended(self) -> Iterator[None]:
        """The API server stopped (SIGSTOP): its connections stay open, and nothing comes."""
        children = psutil.Process(self.process).children(recursive=True)
        [server] = [child for child in children if child.cmdline()[-2:] == ["-m", "warren_api"]]
        server.suspend()
        try:
            yield
        finally:
            server.resume()

    @contextmanager
    def ike_blocked(self, peer: str) -> Iterator[None]:
        """UDP 500 and 4500 dropped at a gateway, both ways."""
        names = [line.split()[0] for line in self.run("ip", "netns", "list").splitlines() if line]
        [namespace] = [name for name in names if name.endswith(f"-{peer}")]
        inside = ("ip", "netns", "exec", namespace, "nft")
        self.run(*inside, "; ".join(("add table inet test_block", *map(_block, ("input", "output")))))
        try:
            yield
        finally:
            self.run(*inside, "delete", "table", "inet", "test_block")


def _block(hook: str) -> str:
    """Commands of nft that drop IKE at one hook."""
    rule = f"add rule inet test_block {hook} udp"
    chain = f"add chain inet test_block {hook} {{ type filter hook {hook} priority -400; }}"
    return f"{chain}; {rule} dport {{ 500, 4500 }} drop; {rule} sport {{ 500, 4500 }} drop"


@contextmanager
def running_demo(log: Path) -> Iterator[Demo]:
    """Start the demo, and stop it at the end. On strongSwan: it reports at once that a peer does not answer."""
    port = choose_port("127.0.0.1", 8400, "--http-port")
    command = [WARREN, "demo", "--keep", "--json", "--driver", "strongswan", "--http-port", str(port)]
    with log.open("wb") as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()[-3_000:]
            report = json.loads(line)
            assert report["error"] == "", report["error"]
            assert report["page"], "the web page was not built: run `make web`"
            token_file = Path(report["token_file"])
            enter = tuple(word for word in report["enter"].split() if word != "sudo")
            yield Demo(report["url"], token_file.read_text().strip(), token_file, enter, process.pid)
        finally:
            process.terminate()
            process.wait(120)
