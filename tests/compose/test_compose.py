"""deploy/compose as it is shipped, seen from outside: gateways of the lab join by NATS's published port, an operator works by
the API server's. The tests build on each other, in this order."""

import asyncio
import functools
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from warren_api.adapters.callout_probe import callout_answers
from warren_bus.settings import BusSettings
from warren_lab.lab import Lab
from warren_lab.ping import ping_command
from warren_lab.process import wait_until
from warren_stack.demo.agents import Agents
from warren_stack.demo.api import Api
from warren_stack.demo.fleet import MANAGEMENT_ADDRESS, Gateway, build_fleet
from warren_stack.deploy.users import UIDS
from warren_trust.keys import KeyKind, KeyPair, write_seed

pytestmark = [pytest.mark.compose, pytest.mark.root, pytest.mark.timeout(600)]

HTTP = "https://127.0.0.1:8400"
BUS = f"tls://{MANAGEMENT_ADDRESS}:4222"
SERVICES = ("postgres", "nats", "callout", "streams", "registry", "policy", "metrics", "api")
KEEPER = "certificates"  # without a network, and with the CA
STEPS = ("keys", "database")
PAGE = Path(__file__).parents[2] / "docs/deploy.md"
TUNNELS = ("hub+spoke-1", "hub+spoke-2")
NIST = {"aes256gcm16"}
LIMIT_SECONDS = 60.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what compose.yaml says by default
Stack = Any  # of conftest.py


@dataclass(frozen=True)
class Fleet:
    """Three gateways with charon, and their agents."""

    gateways: dict[str, Gateway]
    agents: Agents

    def ping(self, spoke: str) -> None:
        """From one protected network to the hub's."""
        inner = {name: str(gateway.plan.inner) for name, gateway in self.gateways.items()}
        self.gateways[spoke].namespace.run(*ping_command(inner["hub"], inner[spoke]))


@pytest.fixture(scope="module")
def fleet(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Each gateway has joined by a token of its own; management addresses lead to the published port."""
    data = tmp_path_factory.mktemp("agents")
    (data / "log").mkdir()
    with Lab("wc") as lab:
        gateways = build_fleet(lab, "strongswan")
        agents = Agents(gateways, BUS, data)

        async def join() -> None:
            async with Api(HTTP, stack.token) as api:
                await agents.join(api)

        try:
            asyncio.run(join())
            yield Fleet(gateways, agents)
        finally:
            asyncio.run(agents.stop())


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the operator keeps it."""
    return tmp_path_factory.mktemp("backup")


def _unknown(stack: Stack) -> BusSettings:
    """A newcomer, whose key nobody knows."""
    seed = stack.authority.with_name("unknown.seed")
    if not seed.exists():
        write_seed(seed, KeyPair.generate(KeyKind.USER))
    return BusSettings((BUS,), seed, ca_file=stack.authority)


def _up(stack: Stack) -> list[str]:
    return sorted(tunnel["name"] for tunnel in stack.listing("tunnels") if tunnel["state"] == "up")


def _sas(stack: Stack, tunnel: str) -> list[dict[str, Any]]:
    [found] = [it for it in stack.listing("tunnels") if it["name"] == tunnel]
    return [sa for end in found["ends"].values() if end["link"] for sa in end["link"]["children"]]


def _spis(stack: Stack, tunnel: str) -> set[str]:
    return {str(sa["spi_in"]) for sa in _sas(stack, tunnel)}


def _ciphers(stack: Stack, tunnel: str) -> set[str]:
    return {sa["cipher"] for sa in _sas(stack, tunnel)}


def _away(stack: Stack) -> set[str]:
    return {name for name, up in stack.health().get("dependencies", {"api": False}).items() if not up}


def _online(stack: Stack) -> list[str]:
    return sorted(peer["peer"] for peer in stack.listing("peers") if peer["presence"] == "online")


def _commands(section: str) -> dict[str, str]:
    """The commands of docs/deploy.md, by what their comment calls them."""
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n# ([a-z]+).*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def _secrets(stack: Stack) -> dict[str, str]:
    """Every seed and password of the deployment, by its file."""
    folder = Path(stack.engine.inspect("warren_deployment", "volume")["Mountpoint"])
    files = [*folder.glob("keys/*.seed"), *folder.glob("secrets/*.pass")]
    return {path.name: path.read_text().strip().rpartition(":")[2] for path in files}


def is_healthy(stack: Stack, service: str) -> bool:
    return bool(stack.container(service)["State"]["Health"]["Status"] == "healthy")


def test_everything_is_ready_and_the_steps_of_the_start_have_ended(stack: Stack) -> None:
    health = stack.health()
    assert all(health["dependencies"].values())
    assert {"nats", "callout", "registry/postgres", "policy/postgres", "metrics/postgres"} <= health[
        "dependencies"
    ].keys()
    for step in STEPS:
        assert stack.container(step)["State"]["ExitCode"] == 0
    for service in SERVICES:
        wait_until(functools.partial(is_healthy, stack, service), service, LIMIT_SECONDS)


def test_the_gateway_and_the_port_of_agents_are_all_that_is_published(stack: Stack) -> None:
    published = {
        service: stack.container(service)["HostConfig"]["PortBindings"] or {} for service in (*SERVICES, *STEPS)
    }
    assert {service: bindings for service, bindings in published.items() if bindings} == {
        "nats": {"4222/tcp": [{"HostIp": EVERYWHERE, "HostPort": "4222"}]},
        "api": {"8400/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8400"}]},
    }


def test_tunnels_come_up_for_gateways_that_join_from_outside(stack: Stack, fleet: Fleet) -> None:
    assert _online(stack) == ["hub", "spoke-1", "spoke-2"]
    assert "created" in stack.warren("policy", "apply", "examples/hub-spoke.yaml")
    wait_until(lambda: _up(stack) == sorted(TUNNELS), "both tunnels are up", LIMIT_SECONDS)
    fleet.ping("spoke-1")
    fleet.ping("spoke-2")


def test_prometheus_reads_the_metrics_on_its_network(stack: Stack, fleet: Fleet) -> None:
    read = (
        f"import ssl, urllib.request as r; c = ssl.create_default_context(cadata='''{stack.authority.read_text()}'''); "
        "print(r.urlopen('https://metrics:9400/metrics', timeout=5, context=c).read().decode())"
    )
    image = stack.container("metrics")["Config"]["Image"]
    said = stack.engine.docker(
        "run", "--rm", "--network", "warren_monitoring", "--entrypoint", "python3", image, "-c", read
    )
    assert "warren_peers_online 3.0" in said.splitlines()
    with pytest.raises(httpx.HTTPError):
        httpx.get("https://127.0.0.1:9400/metrics", timeout=2, trust_env=False)


@pytest.mark.parametrize("service", SERVICES)
def test_a_part_that_crashes_is_picked_up_again(stack: Stack, fleet: Fleet, service: str) -> None:
    before = {tunnel: _spis(stack, tunnel) for tunnel in TUNNELS}
    stack.crash(service)
    wait_until(stack.serves, "everything is ready again", LIMIT_SECONDS)
    wait_until(lambda: asyncio.run(callout_answers(_unknown(stack))), "a newcomer is answered", LIMIT_SECONDS)
    wait_until(lambda: _online(stack) == ["hub", "spoke-1", "spoke-2"], "the agents are online", LIMIT_SECONDS)
    wait_until(lambda: _up(stack) == sorted(TUNNELS), "both tunnels are reported up", LIMIT_SECONDS)
    assert {tunnel: _spis(stack, tunnel) for tunnel in TUNNELS} == before
    fleet.ping("spoke-1")


def test_a_change_after_all_that_reaches_the_tunnel_and_no_other(stack: Stack, fleet: Fleet) -> None:
    other = _spis(stack, "hub+spoke-2")
    stack.warren("policy", "apply", "examples/spoke-1-crypto.yaml")
    wait_until(
        lambda: _ciphers(stack, "hub+spoke-1") == {"chacha20poly1305"}, "the tunnel has its new cipher", LIMIT_SECONDS
    )
    assert _spis(stack, "hub+spoke-2") == other
    fleet.ping("spoke-1")


def test_a_ca_is_replaced_without_a_restart_of_anything(stack: Stack, fleet: Fleet) -> None:
    before = {tunnel: _spis(stack, tunnel) for tunnel in TUNNELS}
    started = {service: stack.container(service)["State"]["StartedAt"] for service in ("nats", "postgres", "api")}
    stack.engine.execute(KEEPER, "warren", "ca", "rotate", "--yes")
    stack.engine.execute(KEEPER, "warren", "ca", "rotate", "--finish", "--wait", "--yes")
    new = stack.engine.execute("api", "cat", "/run/warren/ca.pem")
    assert new.count("BEGIN CERTIFICATE") == 1
    assert new != stack.authority.read_text()
    stack.authority.write_text(new)
    wait_until(stack.serves, "everything is ready by the new CA", LIMIT_SECONDS)
    for service in ("callout", "registry", "policy", "metrics", "streams"):
        assert stack.engine.execute(service, "cat", "/run/warren/ca.pem") == new
        stack.crash(service)  # its next start connects to NATS and PostgreSQL, which are served by the new CA
    wait_until(stack.serves, "everything is ready again", LIMIT_SECONDS)
    wait_until(lambda: _online(stack) == ["hub", "spoke-1", "spoke-2"], "the agents are online", LIMIT_SECONDS)
    assert {tunnel: _spis(stack, tunnel) for tunnel in TUNNELS} == before
    assert {service: stack.container(service)["State"]["StartedAt"] for service in started} == started


def test_health_of_a_container_reports_that_the_bus_is_unavailable(stack: Stack) -> None:
    stack.engine.compose("stop", "nats")
    wait_until(
        lambda: stack.check("registry", "bus-connected") == (1, ""), "the registry is not healthy", LIMIT_SECONDS
    )
    wait_until(lambda: stack.check("api", "api-ready")[0] == 1, "the API server is not healthy", LIMIT_SECONDS)
    assert stack.check("api", "api-ready")[1].startswith("503, not ready: nats, callout, registry")
    stack.engine.compose("start", "nats")
    wait_until(lambda: stack.check("api", "api-ready") == (0, ""), "the API server is healthy", LIMIT_SECONDS)
    wait_until(stack.serves, "everything is ready again", LIMIT_SECONDS)
    assert stack.check("registry", "bus-connected") == (0, "")


def test_what_is_kept_is_there_after_down_and_up(stack: Stack, fleet: Fleet) -> None:
    secrets = _secrets(stack)
    stack.engine.compose("down")
    fleet.ping("spoke-1")  # tunnels need no server
    stack.up()
    assert _secrets(stack) == secrets
    assert sorted(it["policy"]["id"] for it in stack.listing("policy", "list")) == ["branches", "spoke-1-crypto"]
    wait_until(lambda: _online(stack) == ["hub", "spoke-1", "spoke-2"], "the agents are online", LIMIT_SECONDS)
    assert "deleted" in stack.warren("policy", "delete", "spoke-1-crypto", "--yes")
    wait_until(lambda: _up(stack) == sorted(TUNNELS), "both tunnels are up", LIMIT_SECONDS)


def test_a_backup_as_the_page_has_it_brings_everything_back(stack: Stack, fleet: Fleet, backup: Path) -> None:
    commands = _commands("Backup")
    stack.shell(commands["keep"], backup)
    names = subprocess.run(
        ["tar", "-tf", backup / "keys.tar"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"./keys/root.seed", "./keys/issuer.seed", "./secrets/pg-postgres.pass"} <= set(names)
    stack.shell(commands["dump"], backup)
    stack.warren("policy", "apply", "examples/spoke-1-crypto.yaml")  # what the backup does not know
    stack.shell(commands["restore"], backup)
    wait_until(lambda: "policy/epoch" in _away(stack), "the restored database is noticed", LIMIT_SECONDS)
    stack.warren("epoch", "advance")
    wait_until(stack.serves, "everything is ready again", LIMIT_SECONDS)
    assert [it["policy"]["id"] for it in stack.listing("policy", "list")] == ["branches"]
    wait_until(lambda: _online(stack) == ["hub", "spoke-1", "spoke-2"], "the agents are online", LIMIT_SECONDS)
    wait_until(lambda: _ciphers(stack, "hub+spoke-1") == NIST, "the tunnel is that of the backup", LIMIT_SECONDS)
    fleet.ping("spoke-1")
    audit = stack.engine.docker(
        "run", "--rm", "--network", "warren_database", "--user", str(UIDS["policy"]), "--volume", "warren_policy-share:/run/warren:ro",
        "--env", "PGPASSFILE=/run/warren/pg-policy.pass", "--env", "WARREN_POSTGRES_DSN=postgresql://policy@/warren?host=postgres",
        "--entrypoint", "python3", stack.container("policy")["Config"]["Image"], "-m", "warren_policy.verify_audit",
    )  # fmt: skip
    assert int(audit.split()[0]) >= 4


def test_a_lost_host_comes_back_from_its_backup(stack: Stack, fleet: Fleet, backup: Path) -> None:
    before = _secrets(stack)
    stack.engine.compose("down", "--volumes")
    commands = _commands("Backup")
    stack.shell(commands["return"] + commands["restore"], backup)
    wait_until(stack.serves, "everything is ready again", LIMIT_SECONDS)
    assert {name: secret for name, secret in _secrets(stack).items() if name.endswith(".seed")} == {
        name: secret for name, secret in before.items() if name.endswith(".seed")
    }
    stack.warren("epoch", "advance", "--to", "7")  # one was announced since that backup
    wait_until(lambda: _online(stack) == ["hub", "spoke-1", "spoke-2"], "the agents are online", LIMIT_SECONDS)
    assert "created" in stack.warren("policy", "apply", "examples/spoke-1-crypto.yaml")
    wait_until(lambda: _ciphers(stack, "hub+spoke-1") == {"chacha20poly1305"}, "the agents follow", LIMIT_SECONDS)
    fleet.ping("spoke-1")


def test_no_secret_shows_in_what_docker_or_a_container_prints(stack: Stack) -> None:
    secrets = _secrets(stack)
    assert len(secrets) == 10 + 5
    for service in (*SERVICES, *STEPS):
        container = stack.container(service)
        printed = (
            str(container)
            + stack.engine.docker("logs", container["Id"])
            + stack.engine.compose("logs", "--no-color", service)
        )
        shown = [name for name, secret in secrets.items() if secret in printed]
        assert shown == [], service


def test_down_with_volumes_leaves_nothing(stack: Stack, fleet: Fleet) -> None:
    stack.engine.compose("down", "--volumes")
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    assert stack.engine.docker("volume", "ls", "--quiet") == ""
    networks = stack.engine.docker("network", "ls", "--format", "{{.Name}}").split()
    assert sorted(networks) == ["bridge", "host", "none"]
