"""A whole agent, as its command starts it."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from warren_contracts.tokens import join_token_text
from warren_testkit.agent.control import Control
from warren_testkit.agent.logged_process import LoggedProcess
from warren_testkit.lab.gateways import Gateway

# The command, which leaves the names of its modules behind.
_STARTER = """
import atexit, json, sys
names = sys.argv.pop()
atexit.register(lambda: json.dump(sorted(name for name, it in sys.modules.items() if it), open(names, "w")))
from warren_agent.entry import main
main()
"""
STOP_LIMIT = 60.0  # s
ENROL_TRIES = 3
VERB_LIMIT = 120.0  # s; enrolling takes two on an idle machine, and twenty on an emulated one


def unit_environment() -> dict[str, str]:
    """What the agent's unit sets for the interpreter and its allocator."""
    unit = Path(__file__).parents[4] / "deploy" / "systemd" / "warren-agent.service"
    line = next(line for line in unit.read_text().splitlines() if line.startswith("Environment="))
    return dict(item.split("=", 1) for item in line.removeprefix("Environment=").split())


def join_token(root: bytes, authority: bytes | None = None) -> str:
    """A token of the right form for a fleet with this trust root, and a bus with this CA (SHA-256; 32 bytes each)."""
    return join_token_text("a" * 16, "b" * 52, root, authority)


class AgentProcess(LoggedProcess[asyncio.subprocess.Process]):
    """`warren-agent` with a state folder, a log and an environment of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str], token: str) -> None:
        super().__init__(folder / "agent.log")
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "agent"
        self.exit_code: int | None = None
        self.before: tuple[str, ...] = ()  # a command that starts the rest of its line
        source = {
            name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ
        }  # of a tree that is not installed
        # It does not run in its gateway's namespace, so that the switches of its own say nothing of the tunnels.
        source["WARREN_HOST_CHECKS"] = "off"
        self.settings = {**source, **environment, "WARREN_STATE": str(self.state), "WARREN_LOG_FORMAT": "json"}
        self._token = token

    def modules(self) -> list[str]:
        """What the last process had imported; once it has ended."""
        names: list[str] = json.loads((self.folder / "modules.json").read_text())
        return names

    @property
    def last_line(self) -> str:
        """Its last word."""
        return self.log.rstrip().rpartition("\n")[2]

    def another(self, folder: Path) -> "AgentProcess":
        """Another agent of the same surroundings."""
        return AgentProcess(folder, self.settings, self._token)

    async def run_to_end(self, verb: str) -> int:
        """Run a verb that is expected to end by itself; its exit code."""
        process = await self._spawn(verb, {"WARREN_JOIN_TOKEN": self._token} if verb == "enrol" else {})
        try:
            async with asyncio.timeout(VERB_LIMIT):
                return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def enrol(self) -> None:
        """Join; AssertionError with its words when that failed.

        A callout that does not answer in time on a busy machine refuses: it is asked again.
        """
        for _ in range(ENROL_TRIES):
            if await self.run_to_end("enrol") == 0:
                return
        raise AssertionError(self.log)

    async def start(self) -> None:
        """Start it; it is at work a moment later."""
        self._process = await self._spawn("run", {})

    async def stop(self) -> None:
        """A clean stop; `exit_code` is its result."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(STOP_LIMIT):
                self.exit_code = await process.wait()

    async def kill(self) -> None:
        """As when the power fails."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    async def _spawn(self, verb: str, more: dict[str, str]) -> asyncio.subprocess.Process:
        names = str(self.folder / "modules.json")
        with self._log_file.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.before,
                sys.executable,
                "-c",
                _STARTER,
                verb,
                names,
                env={**unit_environment(), **self.settings, **more},
                stdout=log,
                stderr=log,
            )


class GatewayAgent(AgentProcess):
    """A whole agent next to one gateway's charon, in `folder` or the gateway's own."""

    def __init__(
        self, gateway: Gateway, control: Control, folder: Path | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        environment = {
            "WARREN_NATS_URL": control.server.url,
            "WARREN_PEER": gateway.name,
            "WARREN_VICI_SOCKET": str(gateway.vici),
            "WARREN_ENDPOINTS": gateway.address,
            "WARREN_SUBNETS": gateway.network,
            **(more or {}),
        }
        super().__init__(folder or gateway.folder, environment, join_token(control.root, control.server.authority))
        self.gateway = gateway


AgentPair = tuple[Control, GatewayAgent, GatewayAgent]  # the control plane, the hub's agent and the spoke's
