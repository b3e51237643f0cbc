"""Checks of charon: its socket, version, plugins, key, connections and SAs; and of the guard."""

import asyncio
import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from warren_agent.doctor.finding import Check, failed, ok, unknown, warning
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.plugins import missing_for_key
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.errors import DriverError, DriverUnavailableError
from warren_agent.host import GUARD_SOCKET, IKE_PORTS, ike_sockets

GUARD_TIMEOUT = 5.0  # s
MAX_REPLY = 1 << 20  # bytes of the guard
KERNEL_PLUGINS = ("kernel-netlink", "kernel-libipsec")


async def check_charon(paths: StrongswanPaths) -> tuple[list[Check], list[str]]:
    """The checks, and the addresses of the peers with which there is an IKE_SA."""
    charon = CharonClient(paths.vici)
    try:
        abilities = await charon.abilities()
        names = await charon.connection_names()
        sas = await charon.sas(noblock=True)
    except DriverUnavailableError as error:
        return [_unreachable(paths.vici, error)], []
    except DriverError as error:
        return [failed("charon", str(error), "look at charon's log: journalctl -u strongswan")], []
    finally:
        await charon.close()
    checks = [ok("charon", f"strongSwan {abilities.version} at {paths.vici}"), *_check_plugins(abilities, paths)]
    own = [name for name in names if "~" in name]
    checks.append(_check_sockets())
    checks.append(ok("connections", f"{len(own)} with a generation, {len(names) - len(own)} others"))
    checks += _check_sas(sas)
    return checks, [sa.remote_host for sa in sas if sa.up]


def _unreachable(path: Path, error: Exception) -> Check:
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except PermissionError:
        return failed(
            "charon", f"{path}: no permission", "run this as the agent's user, or let the agent's group read the socket"
        )
    except OSError as gone:
        remedy = "start strongSwan (systemctl start strongswan), with its plugin vici; else name its socket with --vici"
        return failed("charon", f"{path}: {gone.strerror}", remedy)
    if not is_socket:
        return failed("charon", f"{path}: not a socket", "name charon's VICI socket with --vici")
    return failed("charon", str(error), "restart strongSwan: it listens and does not answer, or is gone")


def _check_plugins(abilities: CharonAbilities, paths: StrongswanPaths) -> Iterable[Check]:
    if not abilities.plugins:
        yield unknown("plugins", "charon does not list them")
        return
    missing = [*missing_for_key(abilities.plugins)]
    if not abilities.plugins & {*KERNEL_PLUGINS}:
        missing.append(" or ".join(KERNEL_PLUGINS))
    if missing:
        yield failed(
            "plugins",
            f"not loaded: {', '.join(missing)}",
            "install libstrongswan-standard-plugins or the like, and load them",
        )
    else:
        kernel = next(name for name in reversed(KERNEL_PLUGINS) if name in abilities.plugins)
        yield ok("plugins", f"{len(abilities.plugins)} loaded, ESP by {kernel}")
    if abilities.knows("alert"):
        yield ok("reasons", "from the event alert")
    elif paths.notify_socket.exists():
        yield ok("reasons", f"from error-notify at {paths.notify_socket}")
    else:
        yield warning(
            "reasons", f"no socket at {paths.notify_socket}: reasons come from charon's log, later and less exact",
            "install libcharon-extra-plugins and load error-notify",
        )  # fmt: skip


def _check_sockets() -> Check:
    found = ike_sockets()
    if found is None:
        return unknown("sockets", "the system does not list them")
    if missing := [port for port in IKE_PORTS if not any(it.endswith(f":{port}") for it in found)]:
        ports = " and ".join(map(str, missing))
        return warning(
            "sockets",
            f"nothing listens at UDP {ports}",
            "look at charon.port and charon.port_nat_t, and for another IKE daemon",
        )
    return ok("sockets", ", ".join(found))


def _check_sas(sas: list[IkeSa]) -> Iterable[Check]:
    up = [sa for sa in sas if sa.up]
    children = sum(child.carries for sa in up for child in sa.children)
    yield ok("tunnels", f"{len(up)} IKE_SAs with {children} CHILD_SAs, {len(sas) - len(up)} under way")
    silent = sorted({sa.handle.tunnel for sa in up if sa.waiting and sa.handle})
    if silent:
        yield warning(
            "answers",
            f"a request waits for its answer: {', '.join(silent)}",
            "look whether these peers are reachable on UDP 500 and 4500",
        )


async def check_guard(socket_path: Path = GUARD_SOCKET) -> list[Check]:
    """Whether the guard answers, and what it finds in this host's network."""
    try:
        reply = await ask_guard(socket_path)
    except FileNotFoundError:
        return [
            warning(
                "guard",
                f"no socket at {socket_path}: nothing keeps traffic from leaving in clear",
                "install and start warren-guard",
            )
        ]
    except (OSError, TimeoutError, ValueError) as error:
        return [failed("guard", f"{socket_path}: {error or type(error).__name__}", "systemctl status warren-guard")]
    if reply.get("error"):
        return [failed("guard", str(reply["error"]), "systemctl status warren-guard")]
    findings = [it for it in reply.get("findings", []) if isinstance(it, Mapping)]
    checks = [ok("guard", f"answers at {socket_path}")]
    checks += [
        warning(f"guard {it.get('code', '')}", str(it.get("detail", "")), "the detail names the rule or the setting")
        for it in findings
        if not it.get("fixed")
    ]
    return checks


async def ask_guard(socket_path: Path) -> dict[str, Any]:
    """The guard's reply to `inspect`. OSError, TimeoutError or ValueError if there is none."""
    async with asyncio.timeout(GUARD_TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(str(socket_path), limit=MAX_REPLY)
        try:
            writer.write(b'{"request":"inspect"}\n')
            await writer.drain()
            reply = json.loads(await reader.readline())
        finally:
            writer.close()
    if not isinstance(reply, dict):
        raise ValueError("the reply is not an object")
    return reply
