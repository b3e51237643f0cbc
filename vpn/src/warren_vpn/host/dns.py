"""DNS servers of the host: systemd-resolved, resolvconf, or the plain file, by what the host has (`resolv_conf.choose_mode`)."""

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from warren_vpn.host import command
from warren_vpn.host.changes import (
    Address,
    DnsChange,
    Original,
    ResolvconfChange,
    ResolvConfFileChange,
    ResolvedChange,
)
from warren_vpn.host.errors import HostError
from warren_vpn.host.resolv_conf import (
    DnsFacts,
    build_record,
    build_resolv_conf,
    choose_mode,
    domain_arguments,
)

RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVED = Path("/run/systemd/resolve/io.systemd.Resolve")
_MAX_BYTES = 64_000


def dns_change(
    device: str, servers: tuple[Address, ...], search: tuple[str, ...], *, everything: bool, path: Path = RESOLV_CONF
) -> DnsChange:
    """The change that lets this host ask `servers`. HostError: the present file cannot be read."""
    facts = read_facts(path)
    match choose_mode(facts):
        case "resolved":
            return ResolvedChange(device=device, servers=servers, search=search, everything=everything or not search)
        case "resolvconf":
            return ResolvconfChange(device=device, servers=servers, search=search, everything=everything)
        case "file":
            return ResolvConfFileChange(
                path=str(path), original=read_original(path), written=(build_resolv_conf(servers, search),)
            )


def read_facts(path: Path = RESOLV_CONF) -> DnsFacts:
    """What this host has."""
    resolvconf = shutil.which("resolvconf")
    is_resolvectl = resolvconf is not None and Path(resolvconf).resolve().name == "resolvectl"
    content = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        content = path.read_text()[:_MAX_BYTES]
    return DnsFacts(
        shutil.which("resolvectl") is not None and _RESOLVED.exists(),
        resolvconf is not None and not is_resolvectl,
        content,
    )


def read_original(path: Path) -> Original:
    """What is at a path. HostError: it is a folder or a device, too long, or not text."""
    try:
        if path.is_symlink():
            return Original(target=os.readlink(path))
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise HostError(f"{path}: not a file of at most {_MAX_BYTES:,} bytes; nothing was changed")
        return Original(content=path.read_text(), mode=stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        return Original()
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path}: cannot be read ({error}); nothing was changed") from None


async def apply_dns(change: DnsChange) -> None:
    """Make the change. HostError."""
    match change:
        case ResolvedChange(device=device, servers=servers):
            await command.run("resolvectl", "dns", device, *map(str, servers))
            domains = domain_arguments(change.search, everything=change.everything)
            await command.run("resolvectl", "domain", device, *(domains or [""]))
            await command.run("resolvectl", "default-route", device, "yes" if change.everything else "no")
        case ResolvconfChange(device=device, servers=servers, search=search):
            options = await _preference(everything=change.everything)
            await command.run("resolvconf", *options, "-a", record_of(device), stdin=build_record(servers, search))
        case ResolvConfFileChange(path=path, written=written):
            replace_file(Path(path), Original(content=written[0]))


async def undo_dns(change: DnsChange) -> str:
    """Put the former state back; returns why it was left as it is, or nothing. HostError."""
    match change:
        case ResolvedChange(device=device):
            # its settings end with the device, after which resolvectl refuses: both are what is wanted
            with contextlib.suppress(HostError):
                await command.run("resolvectl", "revert", device)
        case ResolvconfChange(device=device):
            await command.run("resolvconf", "-f", "-d", record_of(device))
        case ResolvConfFileChange(path=path, written=written):
            present = read_original(Path(path))
            if present == change.original:
                return ""
            if present.content not in written:
                return f"{path}: another program has changed it since; it stays as it is"
            replace_file(Path(path), change.original)
    return ""


async def _preference(*, everything: bool) -> list[str]:
    """The options of openresolv that put our servers first, and the others out of use.

    Debian's own resolvconf has none: there the name of a record decides, and `tun*` precedes real links (interface-order(5)).
    """
    try:
        version = await command.run("resolvconf", "--version")
    except HostError:
        return []
    if not version.startswith("openresolv"):
        return []
    return ["-m", "0", "-x"] if everything else ["-m", "0"]


def record_of(device: str) -> str:
    """The name of our record of resolvconf(8), where it expects an interface and a program."""
    return f"tun.{device}"


def replace_file(path: Path, wanted: Original) -> None:
    """Put a file, a symbolic link or nothing at a path, in one step. HostError.

    A bind mount, as containers have over /etc/resolv.conf, cannot be replaced: its content is written in place.
    """
    temporary = path.with_name(f".{path.name}.warren")
    try:
        temporary.unlink(missing_ok=True)
        if wanted.target is not None:
            temporary.symlink_to(wanted.target)
        elif wanted.content is not None:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, wanted.mode)
            with open(descriptor, "w") as file:
                os.fchmod(descriptor, wanted.mode)
                file.write(wanted.content)
                file.flush()
                os.fsync(descriptor)
        else:
            path.unlink(missing_ok=True)
            return
        try:
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno != errno.EBUSY or wanted.content is None:
                raise
            with path.open("w") as file:
                file.write(wanted.content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from None
