"""Checks of the way to the bus. Without a login: a second connection of this peer's key would count as a copy of it."""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from warren_agent.doctor.finding import Check, failed, ok, warning

CONNECT_TIMEOUT = 5.0  # s
MAX_INFO = 64 << 10  # bytes
DEFAULT_PORT = 4222


async def check_servers(servers: Iterable[str]) -> list[Check]:
    """Whether each NATS server is reachable, and greets as one."""
    found = await asyncio.gather(*(_check_server(server) for server in servers))
    return found or [failed("bus", "no servers are known", "enrol this host, or name them with --nats")]


async def _check_server(server: str) -> Check:
    parts = urlsplit(server if "//" in server else f"nats://{server}")
    host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    name, began = f"bus {host}:{port}", time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, limit=MAX_INFO)
            try:
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        remedy = "look at the route, the firewall (TCP) and the name; the tunnels go on without it"
        return failed(name, f"{error or 'no answer'}", remedy)
    if not line.startswith(b"INFO "):
        return failed(name, "what answers is not a NATS server", "correct --nats")
    try:
        info = json.loads(line[5:])
    except ValueError:
        return failed(name, "its greeting cannot be read", "look at what answers there")
    milliseconds = (time.monotonic() - began) * 1_000
    tls = "TLS" if info.get("tls_required") else "no TLS"
    if not info.get("tls_required") and not host.startswith("127."):
        return warning(
            name, f"NATS {info.get('version', '?')}, {tls}, {milliseconds:.0f} ms", "use TLS outside of one machine"
        )
    return ok(name, f"NATS {info.get('version', '?')}, {tls}, {milliseconds:.0f} ms")


def check_agent(folder: Path) -> Check:
    """Whether the agent runs with this folder: it holds the lock."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return warning("agent", "has never run with this state folder", "systemctl start warren-agent")
    except OSError as error:
        return failed("agent", f"{folder}/lock: {error.strerror}", "run this as the agent's user")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return ok("agent", "runs")
    finally:
        os.close(descriptor)
    return warning("agent", "does not run", "systemctl start warren-agent")
