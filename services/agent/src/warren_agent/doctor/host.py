"""Checks of this host: state folder, disk, kernel, forwarding, clock, MTU, addresses."""

import os
import shutil
import socket
import stat
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from warren_agent.doctor.finding import Check, failed, ok, unknown, warning
from warren_agent.drivers.addresses import host_owns
from warren_agent.errors import BadStateError, DamagedIdentityError, NotEnrolledError
from warren_agent.host import forwards_ipv4, path_mtu
from warren_agent.paths.echo import open_echo_socket
from warren_agent.settings import AgentSettings
from warren_agent.state.store import StateStore

LEAST_FREE_BYTES = 64 << 20  # telemetry takes 16 MiB, and every state file is written next to its former content
LEAST_MTU = 1_280  # bytes: of IPv6 (RFC 8200, section 5); ESP in UDP takes 80 of them
USUAL_MTU = 1_500
_SYNCHRONIZED = (Path("/run/systemd/timesync/synchronized"), Path("/run/chrony/chronyd.pid"), Path("/run/ntpd.pid"))


def check_state_folder(store: StateStore) -> Iterable[Check]:
    """The folder, its keys, and the identity."""
    folder = store.folder
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        names = sorted(it.name for it in folder.iterdir())
    except OSError as error:
        yield failed(
            "state", f"{folder}: {error.strerror}", "choose the folder with --state, and run this as the agent's user"
        )
        return
    open_files = [it for it in names if stat.S_IMODE((folder / it).lstat().st_mode) & 0o077 and it != "lock"]
    if mode & 0o077 or open_files:
        what = ", ".join(open_files) or str(folder)
        yield warning("state", f"{what}: open to other users", f"chmod 0700 {folder} and 0600 its files")
    else:
        yield ok("state", f"{folder}: {', '.join(names)}")
    yield from _check_identity(store)
    yield _check_disk(folder)


def _check_identity(store: StateStore) -> Iterable[Check]:
    try:
        identity = store.identity()
    except NotEnrolledError as error:
        yield failed("enrolment", str(error), "warren-agent enrol --token-file FILE")
    except (DamagedIdentityError, BadStateError) as error:
        yield failed("enrolment", str(error), "enrol again with a join token; the keys are kept")
    else:
        tags = ", ".join(identity.tags) or "none"
        yield ok("enrolment", f"{identity.peer}, tags: {tags}, enrolled at {identity.enrolled_at:%Y-%m-%d %H:%M} UTC")
    try:
        intent = store.intent()
    except BadStateError as error:
        yield failed("intent", str(error), "remove the file: the bus has a newer one")
        return
    if intent is None:
        yield warning("intent", "no intent is stored", "the agent receives it as soon as it reaches the bus")
    else:
        yield ok("intent", f"revision {intent.policy_revision} of epoch {intent.epoch}, {len(intent.directory)} peers")


def _check_disk(folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    detail = f"{usage.free >> 20:,} MiB free of {usage.total >> 20:,} MiB at {folder}"
    if usage.free < LEAST_FREE_BYTES:
        return failed("disk", detail, "free some space: the ledger, the intent and telemetry cannot be stored")
    return ok("disk", detail)


def check_kernel() -> Iterable[Check]:
    """The kernel, whether it has XFRM, whether it forwards, and who keeps its clock."""
    system = os.uname()
    yield ok("kernel", f"{system.sysname} {system.release} {system.machine}")
    if Path("/proc/net/xfrm_stat").exists():
        yield ok("xfrm", "the kernel has IPsec (CONFIG_XFRM_STATISTICS)")
    else:
        yield unknown("xfrm", "no /proc/net/xfrm_stat: the kernel has no IPsec, or no statistics of it")
    for version, forwards in (("IPv4", forwards_ipv4()), ("IPv6", _flag("net/ipv6/conf/all/forwarding"))):
        name = f"forwarding {version}"
        if forwards is None:
            yield unknown(name, f"cannot be read; {version} may be off")
        elif forwards:
            yield ok(name, "on")
        else:
            key = "net.ipv4.ip_forward" if version == "IPv4" else "net.ipv6.conf.all.forwarding"
            yield warning(name, "off: packets of the networks behind this host do not pass", f"sysctl -w {key}=1")
    yield _check_echoes()
    if any(path.exists() for path in _SYNCHRONIZED):
        yield ok("clock", "kept by a time service")
    else:
        yield warning(
            "clock",
            "no sign of a time service",
            "install chrony or systemd-timesyncd: certificates and calls need the time",
        )


def _check_echoes() -> Check:
    try:
        open_echo_socket(4).close()
    except OSError as error:
        return warning(
            "echoes", f"this user may not send any ({error.strerror}): packets lost in a tunnel are not noticed",
            'sysctl -w net.ipv4.ping_group_range="0 2147483647"',
        )  # fmt: skip
    return ok("echoes", "allowed")


def _flag(key: str) -> bool | None:
    try:
        return (Path("/proc/sys") / key).read_text().strip() != "0"
    except OSError:
        return None


def check_addresses(settings: AgentSettings) -> Iterable[Check]:
    """Whether the announced endpoints are addresses of this host, or of a NAT in front of it."""
    hosts = [it.host for it in settings.endpoints]
    if not hosts:
        yield ok("endpoints", "none announced: this gateway initiates, and its peers need fixed addresses")
        return
    foreign = [str(host) for host in hosts if not isinstance(host, str) and not host_owns(host)]
    names = [host for host in hosts if isinstance(host, str)]
    for name in names:
        yield _check_name(name)
    if foreign:
        yield warning(
            "endpoints", f"{', '.join(foreign)}: no address of this host",
            "expected behind one-to-one NAT (UDP 500 and 4500 must be forwarded); else correct --endpoints",
        )  # fmt: skip
    elif len(names) < len(hosts):
        yield ok("endpoints", ", ".join(map(str, settings.endpoints)))


def _check_name(name: str) -> Check:
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, 500, type=socket.SOCK_DGRAM)})
    except OSError as error:
        return failed("endpoints", f"{name}: {error.strerror}", "correct the name or the DNS servers of this host")
    return ok("endpoints", f"{name} is {', '.join(found)}")


def check_mtu(remotes: Iterable[str]) -> Iterable[Check]:
    """The path MTU to each peer, as far as the kernel knows it."""
    for text in dict.fromkeys(remotes):
        try:
            address = ip_address(text)
        except ValueError:
            continue
        mtu = path_mtu(address)
        if mtu is None:
            yield unknown(f"mtu {text}", "no route, or the system does not report it")
        elif mtu < LEAST_MTU:
            yield failed(f"mtu {text}", f"{mtu} bytes", f"a path needs {LEAST_MTU} bytes at least; look at the link")
        elif mtu < USUAL_MTU:
            inner = mtu - 80
            yield warning(
                f"mtu {text}", f"{mtu} bytes", f"clamp TCP's MSS to {inner - 40} where large packets get lost"
            )
        else:
            yield ok(f"mtu {text}", f"{mtu} bytes")
