"""Checks of the way to the bus. Without a login: a second connection of this peer's key would count as a copy of it."""

import asyncio
import fcntl
import json
import os
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from warren_agent.doctor.finding import Check, failed, ok, warning
from warren_bus.errors import BusError
from warren_bus.settings import is_loopback, server_url
from warren_bus.tls import ClientTls, explain

CONNECT_TIMEOUT = 5.0  # s
MAX_INFO = 64 << 10  # bytes
DEFAULT_PORT = 4222


async def check_servers(servers: Iterable[str], ca_file: Path) -> list[Check]:
    """Whether each NATS server is reachable, is verified by the pinned CA, and greets as one."""
    found = await asyncio.gather(*(_check_server(server, ca_file) for server in servers))
    return found or [failed("bus", "no servers are known", "enrol this host, or name them with --nats")]


async def _check_server(server: str, ca_file: Path) -> Check:
    parts = urlsplit(server_url(server))
    host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    name, began = f"bus {host}:{port}", time.monotonic()
    try:
        line = await _greeting(host, port, ClientTls(ca_file).context() if parts.scheme == "tls" else None)
    except (BusError, OSError, ValueError) as error:
        return failed(name, *_failure(error, parts.scheme, host, ca_file))
    if not line.startswith(b"INFO "):
        return failed(name, "what answers is not a NATS server", "correct --nats")
    try:
        info = json.loads(line[5:])
    except ValueError:
        return failed(name, "its greeting cannot be read", "look at what answers there")
    encrypted = parts.scheme == "tls"
    milliseconds = (time.monotonic() - began) * 1_000
    found = f"NATS {info.get('version', '?')}, {'TLS' if encrypted else 'no TLS'}, {milliseconds:.0f} ms"
    return ok(name, found) if encrypted or is_loopback(host) else warning(name, found, "use TLS outside of one machine")


async def _greeting(host: str, port: int, context: ssl.SSLContext | None) -> bytes:
    async with asyncio.timeout(CONNECT_TIMEOUT):
        reader, writer = await asyncio.open_connection(host, port, limit=MAX_INFO, ssl=context)
        try:
            return await reader.readline()
        finally:
            writer.close()


def _failure(error: Exception, scheme: str, host: str, ca_file: Path) -> tuple[str, str]:
    """What failed, and the remedy."""
    if isinstance(error, BusError):
        return f"TLS: {ca_file} holds no CA to verify the server by", "enrol this host with a join token"
    if isinstance(error, ssl.SSLError):
        words, _, remedy = explain(error, host).partition(": ")
        return f"TLS: {words}", remedy
    if isinstance(error, TimeoutError) and scheme == "nats":
        return "no greeting: a server with TLS waits for the client to begin", "write tls:// for nats://"
    return f"{error or 'no answer'}", "look at the route, the firewall (TCP) and the name; the tunnels go on without it"


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
