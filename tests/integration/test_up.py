"""`warren up` as a user runs it: the real command, every service its own process, killed and started in any order."""

import asyncio
import json
import os
import ssl
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from warren_api.adapters.callout_probe import callout_answers
from warren_bus.settings import BusSettings
from warren_lab.process import wait_until
from warren_testkit.up import PROGRAMS, WARREN, Up, running_up, stack_folder
from warren_trust.keys import KeyKind, KeyPair, write_seed

READY_LIMIT_SECONDS = 180.0
PROBE_LIMIT_SECONDS = 30.0
PARTS = [name for name in PROGRAMS if name != "streams"]  # of that one, health shows nothing


class ServedUp:
    """A running `warren up`, as an operator sees it."""

    def __init__(self, up: Up) -> None:
        self.process, self.info, self.parts = up.process, up.info, up.parts
        self.token = Path(up.info["token_file"]).read_text().strip()
        self.trusting = ssl.create_default_context(cafile=up.info["ca_file"])

    def dependencies(self) -> dict[str, bool]:
        """What /api/health says now; empty where nobody answers."""
        try:
            reply = httpx.get(f"{self.info['url']}/api/health", timeout=60, trust_env=False, verify=self.trusting)
        except httpx.HTTPError:
            return {}
        body: dict[str, bool] = reply.json()["dependencies"]
        return body

    def is_ready(self) -> bool:
        dependencies = self.dependencies()
        return bool(dependencies) and all(dependencies.values())


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with stack_folder() as folder:
        yield folder / "data"


@pytest.fixture(scope="module")
def up(data: Path) -> Iterator[ServedUp]:
    with running_up(data) as up:
        yield ServedUp(up)


def test_up_is_ready_with_every_dependency(up: ServedUp) -> None:
    wait_until(up.is_ready, "everything is ready", READY_LIMIT_SECONDS)
    assert {"nats", "registry", "policy", "metrics"} <= set(up.dependencies())


def test_up_writes_a_private_operator_token_that_works(up: ServedUp) -> None:
    token_file = Path(up.info["token_file"])
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    for token, status in ((up.token, 200), ("wrong", 401)):
        headers = {"Authorization": f"Bearer {token}"}
        reply = httpx.get(
            f"{up.info['url']}/api/peers", headers=headers, timeout=60, trust_env=False, verify=up.trusting
        )
        assert reply.status_code == status


def test_health_probes_leave_no_warning_in_the_logs(up: ServedUp, data: Path) -> None:
    bus = BusSettings((up.info["nats_url"],), data / "keys" / "api.seed", ca_file=Path(up.info["ca_file"]))
    logs = {name: data / "log" / f"{name}.log" for name in ("callout", "nats")}
    before = {name: path.stat().st_size for name, path in logs.items()}
    for _ in range(3):
        assert asyncio.run(callout_answers(bus, PROBE_LIMIT_SECONDS))
    unknown = data / "unknown.seed"
    write_seed(unknown, KeyPair.generate(KeyKind.USER))
    assert asyncio.run(callout_answers(replace(bus, nkey_file=unknown), PROBE_LIMIT_SECONDS))  # refused, at once

    def added(name: str) -> list[str]:
        return logs[name].read_text()[before[name] :].splitlines()

    wait_until(
        lambda: any("callout.refused" in line for line in added("callout")),
        "an unknown probe is logged",
        READY_LIMIT_SECONDS,
    )
    wait_until(lambda: any("authentication error" in line for line in added("nats")), "by both", READY_LIMIT_SECONDS)
    [warned] = [line for line in added("callout") if '"warning"' in line or '"error"' in line]
    assert "callout.refused" in warned
    assert len([line for line in added("nats") if "[ERR]" in line]) == 1


def test_a_second_up_on_the_same_data_is_refused(up: ServedUp, data: Path) -> None:
    second = subprocess.run([WARREN, "up", "--data", data], capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert f"process {up.process.pid}" in second.stderr
    wait_until(up.is_ready, "everything is ready", READY_LIMIT_SECONDS)


@pytest.mark.parametrize("name", PARTS)
def test_a_killed_part_comes_back(up: ServedUp, name: str) -> None:
    victim = up.parts()[name]
    victim.kill()

    def returned() -> bool:
        now = up.parts().get(name)
        return now is not None and now.pid != victim.pid and up.is_ready()

    wait_until(returned, f"{name} returns and everything is ready", READY_LIMIT_SECONDS)


def test_all_parts_killed_at_once_come_back(up: ServedUp) -> None:
    victims = {name: it for name, it in up.parts().items() if name in PARTS}
    assert set(victims) == set(PARTS)
    for victim in victims.values():
        victim.kill()

    def returned() -> bool:
        now = {name: it for name, it in up.parts().items() if name in PARTS}
        return set(now) == set(PARTS) and now != victims and up.is_ready()

    wait_until(returned, "all parts return and everything is ready", READY_LIMIT_SECONDS)


def test_no_secret_is_in_a_log_or_a_command_line(up: ServedUp, data: Path) -> None:
    secrets = {path.read_text().strip() for path in (data / "keys").glob("*.seed")} | {up.token}
    secrets |= {path.read_text().strip().rpartition(":")[2] for path in (data / "secrets").glob("*.pass")}
    assert len(secrets) > 10
    texts = [path.read_text(errors="replace") for path in (data / "log").iterdir()]
    texts += [" ".join(child.cmdline()) for child in psutil.Process(up.process.pid).children(recursive=True)]
    assert not [secret[:4] for secret in secrets for text in texts if secret in text]


def test_parts_end_with_a_killed_up_and_it_starts_again(data: Path, up: ServedUp) -> None:
    """The last test of this stack: it kills it."""
    children = psutil.Process(up.process.pid).children(recursive=True)
    runtime = json.loads((data / "up.json").read_text())["runtime"]
    assert len(children) >= len(PARTS)
    up.process.kill()
    up.process.wait()
    _, alive = psutil.wait_procs(children, timeout=90)
    assert alive == []
    with running_up(data) as started:
        again = ServedUp(started)
        wait_until(again.is_ready, "everything is ready again", READY_LIMIT_SECONDS)
        assert again.token == up.token
        assert not Path(runtime).exists()
        runtime = json.loads((data / "up.json").read_text())["runtime"]
        children = psutil.Process(again.process.pid).children(recursive=True)
    assert again.process.returncode == 0
    assert psutil.wait_procs(children, timeout=90)[1] == []
    assert not Path(runtime).exists()
    assert not (data / "up.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL changes its user only when root starts it")
def test_postgres_is_never_root(data: Path) -> None:
    owners = {path.stat().st_uid for path in (data / "postgres").iterdir()}
    assert 0 not in owners
