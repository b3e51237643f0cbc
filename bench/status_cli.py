"""`status_cli`: how long `warren status` takes, start of Python to exit, with a fleet of 40 gateways over TLS.

CPU of the command alone, since other load of the machine does not count; the time on the clock is in the note.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness import Bench, Row, absolute
from structlog.testing import capture_logs

from warren_contracts.commands import Role
from warren_contracts.status import TunnelState
from warren_service.server_certificate import ServerCertificate
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_trust.certificates import issue, make_authority

RUNS = 20
GATEWAYS = 40
MAX_MS = 250.0
COMMAND = (sys.executable, "-c", "from warren_cli.entry import main; main()", "status")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _status() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        place, now = Path(folder), datetime.now(UTC)
        authority = make_authority(now)
        issued = issue(authority, "api", ("127.0.0.1",), now - timedelta(days=1), timedelta(days=9))
        certificate, key, token = place / "api.crt", place / "api.key", place / "token"
        certificate.write_bytes(issued.chain_pem)
        key.write_bytes(issued.key_pem)
        token.write_text(TOKENS[Role.VIEWER])
        token.chmod(0o600)
        (place / "tls").mkdir()
        (place / "tls" / "trusted.pem").write_bytes(authority.pem)
        with LiveApi(certificate=ServerCertificate(certificate, key)) as api:
            for number in range(GATEWAYS):
                api.bus.add_peer(f"branch-{number}", "branch")
                api.bus.add_tunnel(f"branch-{number}+hub")
            environment = {**os.environ, "WARREN_URL": api.url, "WARREN_TOKEN_FILE": str(token)}
            yield _row("status_cli", environment, code=0, note=f"{GATEWAYS} tunnels up")
            api.bus.add_tunnel("branch-x+hub", TunnelState.DOWN)
            yield _row("status_cli_findings", environment, code=3, note=f"{GATEWAYS} tunnels up, one down")


def _row(name: str, environment: dict[str, str], *, code: int, note: str) -> Row:
    cpu_ms, wall_ms = [], []
    for _ in range(RUNS):
        used, began = _children(), time.monotonic()
        done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
        wall_ms.append(1_000 * (time.monotonic() - began))
        cpu_ms.append(1_000 * (_children() - used))
        if done.returncode != code:
            raise AssertionError(f"warren status ended with {done.returncode}: {done.stdout}{done.stderr}")
    note += f"; ms of CPU, {statistics.median(wall_ms):.0f} ms on the clock"
    return absolute(name, cpu_ms, "ms", better="lower", target=MAX_MS, note=note)


BENCHES = [Bench(("status_cli", "status_cli_findings"), _status)]
