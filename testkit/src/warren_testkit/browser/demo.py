"""A running demo with the web page, and what an operator does to it from outside."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from warren_stack.demo.fleet import PLANS
from warren_testkit.browser.server import PageServer
from warren_testkit.bus import free_port

WARREN = str(Path(sys.executable).with_name("warren"))


@dataclass(frozen=True)
class Demo(PageServer):
    """What `warren demo --keep` reports."""

    enter: tuple[str, ...]  # the command that enters its namespaces
    process: int  # id of `warren demo`

    def run(self, *command: str) -> str:
        """Run a command inside the demo's namespaces."""
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True, timeout=60).stdout

    @contextmanager
    def suspended(self, module: str) -> Iterator[None]:
        """A service stopped (SIGSTOP): its connections stay open, and nothing comes."""
        children = psutil.Process(self.process).children(recursive=True)
        [server] = [child for child in children if child.cmdline()[-2:] == ["-m", module]]
        server.suspend()
        try:
            yield
        finally:
            server.resume()

    def inside(self, peer: str) -> tuple[str, ...]:
        """What begins a command in the namespace of a gateway, after `enter`."""
        names = [line.split()[0] for line in self.run("ip", "netns", "list").splitlines() if line]
        [namespace] = [name for name in names if name.endswith(f"-{peer}")]
        return ("ip", "netns", "exec", namespace)

    def ping(self, peer: str, *options: str) -> str:
        """Pings from a gateway's protected subnet to the hub's, through the tunnel."""
        return self.run(*self.inside(peer), *_ping(peer), *options)

    @contextmanager
    def traffic(self, *peers: str) -> Iterator[None]:
        """A steady flow of pings from gateways to the hub."""
        commands = [(*self.enter, *self.inside(peer), *_ping(peer), "-q", "-i", "0.05", "-s", "900") for peer in peers]
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
        try:
            yield
        finally:
            for process in running:
                process.terminate()
                process.wait(60)

    @contextmanager
    def ike_blocked(self, peer: str) -> Iterator[None]:
        """UDP 500 and 4500 dropped at a gateway, both ways."""
        inside = (*self.inside(peer), "nft")
        self.run(*inside, "; ".join(("add table inet test_block", *map(_block, ("input", "output")))))
        try:
            yield
        finally:
            self.run(*inside, "delete", "table", "inet", "test_block")


def _ping(peer: str) -> tuple[str, ...]:
    inner = {plan.peer: str(plan.inner) for plan in PLANS}
    return ("ping", "-n", "-I", inner[peer], inner["hub"])


def _block(hook: str) -> str:
    """Commands of nft that drop IKE at one hook."""
    rule = f"add rule inet test_block {hook} udp"
    chain = f"add chain inet test_block {hook} {{ type filter hook {hook} priority -400; }}"
    return f"{chain}; {rule} dport {{ 500, 4500 }} drop; {rule} sport {{ 500, 4500 }} drop"


@contextmanager
def running_demo(log: Path) -> Iterator[Demo]:
    """Start the demo, and stop it at the end. On strongSwan: it reports at once that a peer does not answer."""
    command = [WARREN, "demo", "--keep", "--json", "--driver", "strongswan", "--http-port", str(free_port())]
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
