"""The guards and agents of the demo, each inside its gateway's own namespace, as in production."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from warren_contracts.peers import JoinTokenRequest, KeyUse, PresenceState
from warren_lab.errors import LabError
from warren_lab.process import eventually, stop_process
from warren_stack.demo.api import Api
from warren_stack.demo.fleet import Gateway
from warren_stack.services import inherited_environment

JOIN_LIMIT_SECONDS = 60.0
ENROL_TRIES = 3
STOP_LIMIT_SECONDS = 10.0
TOKEN_LIFETIME_SECONDS = 300


class Agents:
    """Enrols and runs one agent a gateway, next to its guard; `stop` ends them all."""

    def __init__(
        self, gateways: dict[str, Gateway], nats_url: str, data: Path, more: Mapping[str, str] | None = None
    ) -> None:
        """`more`: further variables of the agents' environment."""
        self._gateways, self._nats_url, self._data = gateways, nats_url, data
        self._more = dict(more or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    async def join(self, api: Api) -> None:
        """Every gateway joins by a token of its own that names its id and tag, and its agent runs from then on.

        Raises:
            LabError: an enrolment was refused; with the agent's last output.
            TimedOutError: a peer did not come online, or did not announce itself.
        """
        for gateway in self._gateways.values():
            self._start_guard(gateway)
        await asyncio.gather(*(self._enrol(api, gateway) for gateway in self._gateways.values()))
        for gateway in self._gateways.values():
            self._start(gateway)

        async def known() -> bool:
            self._check_alive()
            present = {
                peer.peer
                for peer in await api.peers()
                if peer.presence is PresenceState.ONLINE and peer.record.key(KeyUse.IKE)
            }
            return present >= set(self._gateways)

        await eventually(known, "all agents are online and have announced themselves", JOIN_LIMIT_SECONDS)

    async def stop(self) -> None:
        """End the agents; each says goodbye."""
        for process in reversed(self._processes.values()):
            await asyncio.to_thread(stop_process, process, limit_seconds=STOP_LIMIT_SECONDS)
        self._processes.clear()

    def process_id(self, peer: str) -> int:
        """The process of one running agent."""
        return self._processes[peer].pid

    def last_output(self, peers: Iterable[str]) -> str:
        """The ends of these agents' logs, for an error that names them."""
        return " | ".join(f"{peer}: {self._last_output(self._gateways[peer])}" for peer in peers)

    def _environment(self, gateway: Gateway) -> dict[str, str]:
        plan = gateway.plan
        return {
            **inherited_environment(),
            **self._more,
            "PYTHONUNBUFFERED": "1",
            "WARREN_NATS_URL": self._nats_url,
            "WARREN_STATE": str(self._state(gateway)),
            "WARREN_PEER": plan.peer,
            **gateway.daemon.agent_settings,
            "WARREN_ENDPOINTS": str(plan.wan.ip),
            "WARREN_SUBNETS": str(plan.subnet),
            "WARREN_LOG_FORMAT": "json",
            "WARREN_GUARD": "required",
            "WARREN_GUARD_SOCKET": str(self._guard_socket(gateway)),
        }

    def _state(self, gateway: Gateway) -> Path:
        return self._data / "agents" / gateway.plan.peer

    def _guard_socket(self, gateway: Gateway) -> Path:
        """In the daemon's own folder: a path of a socket has 107 bytes at most."""
        return gateway.daemon.folder / "guard.sock"

    def _start_guard(self, gateway: Gateway) -> None:
        """Its agent waits for it, and applies nothing before."""
        name = gateway.plan.peer
        with (self._data / "log" / f"guard-{name}.log").open("ab") as log:
            self._processes[f"{name} (guard)"] = gateway.namespace.spawn(
                str(Path(sys.executable).with_name("warren-guard")),
                "run",
                env={
                    **inherited_environment(),
                    "WARREN_GUARD_STATE": str(self._data / "guards" / name),
                    "WARREN_GUARD_SOCKET": str(self._guard_socket(gateway)),
                    "WARREN_AGENT_USER": str(os.getuid()),
                    "WARREN_LOG_FORMAT": "json",
                },
                stdout=log,
                stderr=log,
            )

    def _log(self, gateway: Gateway) -> Path:
        return self._data / "log" / f"agent-{gateway.plan.peer}.log"

    async def _enrol(self, api: Api, gateway: Gateway) -> None:
        plan = gateway.plan
        self._state(gateway).mkdir(parents=True, mode=0o700)
        request = JoinTokenRequest(
            tags=(plan.tag,), uses=1, lifetime=TOKEN_LIFETIME_SECONDS, peer=plan.peer, subnets=(plan.subnet,)
        )
        token = (await api.join_token(request)).token
        for left in reversed(
            range(ENROL_TRIES)
        ):  # a control plane that has just started on a busy machine may answer too late
            code = await self._run_enrol(gateway, token)
            if code == 0:
                return
            if left == 0:
                raise LabError(f"{plan.peer} could not enrol (code {code}): {self._last_output(gateway)}")

    async def _run_enrol(self, gateway: Gateway, token: str) -> int:
        with self._log(gateway).open("ab") as log:
            process = gateway.namespace.spawn(
                *_agent("enrol"),
                env={**self._environment(gateway), "WARREN_JOIN_TOKEN": token},
                stdout=log,
                stderr=log,
            )
        name = f"{gateway.plan.peer} (enrolling)"
        self._processes[name] = process
        code = await asyncio.to_thread(process.wait, JOIN_LIMIT_SECONDS)
        del self._processes[name]
        return code

    def _start(self, gateway: Gateway) -> None:
        with self._log(gateway).open("ab") as log:
            self._processes[gateway.plan.peer] = gateway.namespace.spawn(
                *_agent("run"), env=self._environment(gateway), stdout=log, stderr=log
            )

    def _check_alive(self) -> None:
        for peer, process in self._processes.items():
            if process.poll() is not None:
                name = peer.partition(" ")[0]
                raise LabError(
                    f"the process of {peer} ended (code {process.returncode}): {self._last_output(self._gateways[name])}"
                )

    def _last_output(self, gateway: Gateway) -> str:
        return " / ".join(self._log(gateway).read_text(errors="replace").splitlines()[-3:])


def _agent(verb: str) -> list[str]:
    """The agent's own entry point, with this very interpreter."""
    return [str(Path(sys.executable).with_name("warren-agent")), verb]
