"""The support bundle: what somebody else needs to understand this host, in one .tar.gz, without secrets."""

import asyncio
import contextlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from warren_agent.doctor.finding import DoctorReport, as_text
from warren_agent.doctor.redact import redacted
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.drivers.strongswan.vici_client import ViciClient
from warren_agent.errors import DriverError
from warren_agent.settings import AgentSettings
from warren_agent.state.store import StateStore
from warren_process.atomic_file import write_atomically

MAX_PART = 2 << 20  # bytes of one file in the bundle; of a longer one the end
COMMAND_TIMEOUT = 10.0  # s
MAX_SECRET_FILE = 4_096  # bytes
# Nothing here prints a key: `ip xfrm state` does, hence `nokeys`.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "ip-address.txt": ("ip", "address"),
    "ip-link.txt": ("ip", "-s", "link"),
    "ip-rule.txt": ("ip", "rule"),
    "ip-route.txt": ("ip", "route", "show", "table", "all"),
    "ip6-route.txt": ("ip", "-6", "route", "show", "table", "all"),
    "xfrm-policy.txt": ("ip", "-s", "xfrm", "policy"),
    "xfrm-state.txt": ("ip", "-s", "xfrm", "state", "list", "nokeys"),
    "nft-warren.txt": ("nft", "list", "table", "inet", "warren"),
    "journal-agent.txt": ("journalctl", "-u", "warren-agent", "-n", "5000", "--no-pager", "-o", "short-iso-precise"),
    "journal-guard.txt": ("journalctl", "-u", "warren-guard", "-n", "2000", "--no-pager", "-o", "short-iso-precise"),
    "journal-charon.txt": (
        "journalctl", "-u", "strongswan", "-u", "strongswan-starter", "-n", "5000", "--no-pager", "-o", "short-iso-precise",
    ),
}  # fmt: skip
VICI_LISTS: Mapping[str, tuple[str, str]] = {
    "charon-sas.json": ("list-sas", "list-sa"),
    "charon-connections.json": ("list-conns", "list-conn"),
    "charon-policies.json": ("list-policies", "list-policy"),
}
VICI_REQUESTS = ("version", "stats", "get-algorithms", "get-counters", "get-pools")
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSFILE")


async def make_bundle(
    settings: AgentSettings,
    report: DoctorReport,
    paths: StrongswanPaths | None,
    target: Path,
    environ: Mapping[str, str],
) -> list[str]:
    """Write the bundle (0600) to `target`; returns the names of its files.

    Raises:
        OSError: the disk does not take it.
    """
    secrets = known_secrets(settings.state, environ)
    parts = {
        "doctor.json": report.model_dump_json(indent=2),
        "doctor.txt": as_text(report),
        "versions.txt": _versions(),
        "settings.json": json.dumps(_settings(settings, environ), indent=2),
        "state-folder.txt": _listing(settings.state),
        "proc-net-snmp.txt": _read(Path("/proc/self/net/snmp")),
        "proc-net-xfrm-stat.txt": _read(Path("/proc/self/net/xfrm_stat")),
        **_state(settings.state),
        **(await _charon(paths) if paths is not None else {}),
    }
    for name, argv in COMMANDS.items():
        parts[name] = await _run(*argv)
    clean = {name: redacted(text, secrets) for name, text in parts.items()}
    folder = target.name.removesuffix(".tar.gz")
    await asyncio.to_thread(write_atomically, target, _archive(folder, clean))
    return sorted(clean)


def known_secrets(folder: Path, environ: Mapping[str, str]) -> list[bytes]:
    """The secrets of this host: key files and their raw keys, and tokens in the environment."""
    found: list[bytes] = []
    with contextlib.suppress(OSError):
        for path in folder.glob("*.seed"):
            with path.open("rb") as file:
                found.append(file.read(MAX_SECRET_FILE))
    store = StateStore(folder)
    for key in (store.nkey, store.ike_key):
        with contextlib.suppress(Exception):
            found.append(bytes(key().signing_key))
    found += [value.encode() for name, value in environ.items() if any(word in name.upper() for word in _SECRET_WORDS)]
    return [it for it in found if it.strip()]


def _versions() -> str:
    installed = sorted(f"{it.metadata['Name']} {it.version}" for it in distributions())
    return "\n".join([f"Python {sys.version}", f"kernel {os.uname().release}", *dict.fromkeys(installed)])


def _settings(settings: AgentSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        "settings": {name: _plain(value) for name, value in vars(settings).items()},
        "environment": sorted(name for name in environ if name.startswith("WARREN_")),  # names only
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(it) for key, it in value.items()}
    if isinstance(value, tuple | list):
        return [str(it) for it in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def _listing(folder: Path) -> str:
    try:
        entries = sorted(folder.rglob("*"))
        return "\n".join(
            f"{it.lstat().st_mode:o} {it.lstat().st_size:>10} {datetime.fromtimestamp(it.lstat().st_mtime, UTC):%FT%TZ} {it}"
            for it in entries
        )
    except OSError as error:
        return f"{folder}: {error.strerror}"


def _state(folder: Path) -> dict[str, str]:
    """The state files that hold no key; what is sealed in the intent is removed by its name."""
    return {
        f"state-{name}": _read(folder / name)
        for name in ("identity.json", "settings.json", "intent.json", "strongswan.json")
    }


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[-MAX_PART:].decode(errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}"


async def _charon(paths: StrongswanPaths) -> dict[str, str]:
    client = ViciClient(paths.vici)
    try:
        parts = {f"charon-{name}.json": await _asked(client.request, name) for name in VICI_REQUESTS}
        for file, (command, event) in VICI_LISTS.items():
            parts[file] = await _asked(client.stream, command, event, {})
        return parts
    finally:
        await client.close()


async def _asked(call: Callable[..., Awaitable[Any]], *arguments: Any) -> str:
    try:
        return json.dumps(await call(*arguments), indent=1, default=lambda it: it.decode(errors="replace"))
    except DriverError as error:
        return str(error)


async def _run(*argv: str) -> str:
    """The output of a command, also of one that fails; none waits for input."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"{argv[0]}: no result in {COMMAND_TIMEOUT:g} s"
    return output[-MAX_PART:].decode(errors="replace")


def _archive(folder: str, parts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in sorted(parts.items()):
            data = text.encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(datetime.now(UTC).timestamp())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
