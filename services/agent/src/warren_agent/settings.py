"""The agent's settings: from its command line, else the environment, else a TOML file, else what was given at its enrolment
(`kept`), else a default. No secret among it."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from warren_agent.drivers.catalogue import BUILT_IN, DEFAULT_KIND, DriverKind, find
from warren_agent.errors import BadSettingError, UnknownDriverError
from warren_agent.setting import Setting
from warren_bus.settings import ALLOW, server_url, wrong_scheme, wrong_server
from warren_contracts.addresses import Endpoint, EndpointText, IPAddress, IPNetwork, is_one_host
from warren_contracts.names import PeerId
from warren_contracts.peers import Platform
from warren_contracts.problems import invalid_input
from warren_contracts.protection import DeviceName

DEFAULT_STATE = "/var/lib/warren-agent"
MAX_MEBIBYTES = 1_024  # of a setting that is a size
MAX_SECONDS = 86_400  # of a setting that is a time
DEFAULT_GUARD_SOCKET = "/run/warren-guard/guard.sock"
MAX_FILE = 64_000  # bytes of the TOML file: there are a dozen settings


SETTINGS = (
    Setting("state", "WARREN_STATE", "--state", DEFAULT_STATE, "folder (0700) of keys, identity and the last intent"),
    Setting("nats_url", "WARREN_NATS_URL", "--nats", "", "servers, by comma; after enrolment the known ones are used"),
    Setting(
        "nats_cleartext",
        "WARREN_NATS_CLEARTEXT",
        "--nats-cleartext",
        "",
        "allow: nats:// (no TLS) elsewhere than on the loopback; for a lab only",
    ),
    Setting("peer", "WARREN_PEER", "--peer", "", "the peer id to enrol as; default: the host's name"),
    Setting(
        "endpoints",
        "WARREN_ENDPOINTS",
        "--endpoints",
        "",
        "fixed WAN addresses or names, by comma; none: dynamic",
        host=True,
    ),
    Setting("subnets", "WARREN_SUBNETS", "--subnets", "", "protected networks behind this host, by comma", host=True),
    Setting("driver", "WARREN_DRIVER", "--driver", DEFAULT_KIND, "kinds of drivers, by comma", host=True),
    Setting(
        "one_way_after", "WARREN_ONE_WAY_AFTER", "--one-way-after", "60", "s of traffic in one direction only; 0: off"
    ),
    Setting(
        "telemetry_limit",
        "WARREN_TELEMETRY_LIMIT",
        "--telemetry-limit",
        "16",
        "MiB of telemetry on disk while the bus is unavailable; 0: none",
    ),
    Setting(
        "probe",
        "WARREN_PROBE",
        "--probe",
        "",
        "addresses behind peers, by comma, that get an echo through their tunnel every 10 s",
    ),
    Setting(
        "guard",
        "WARREN_GUARD",
        "--guard",
        "off",
        "required: apply no tunnel whose traffic is not protected; off",
        host=True,
    ),
    Setting(
        "guard_socket",
        "WARREN_GUARD_SOCKET",
        "--guard-socket",
        DEFAULT_GUARD_SOCKET,
        "socket of warren-guard",
        host=True,
    ),
    Setting(
        "guard_devices",
        "WARREN_GUARD_DEVICES",
        "--guard-devices",
        "ipsec0",
        "interfaces that carry tunnel traffic only, by comma: kernel-libipsec's, XFRM interfaces",
        host=True,
    ),
    Setting(
        "path_hold_down",
        "WARREN_PATH_HOLD_DOWN",
        "--path-hold-down",
        "60",
        "s until a preferred address or gateway is used again",
    ),
    Setting(
        "path_probe",
        "WARREN_PATH_PROBE",
        "--path-probe",
        "on",
        "on: leave an address or gateway through whose tunnel echoes get lost, where another one answers; off",
    ),
    Setting(
        "host_checks",
        "WARREN_HOST_CHECKS",
        "--host-checks",
        "on",
        "on: without a guard, kernel switches that keep packets from passing degrade the tunnels; off",
    ),
    Setting(
        "confirm_within",
        "WARREN_CONFIRM_WITHIN",
        "--confirm-within",
        "120",
        "s after a change in which the bus must not be lost, else it is rolled back; 0: off",
    ),
    Setting(
        "roll_back_after",
        "WARREN_ROLL_BACK_AFTER",
        "--roll-back-after",
        "60",
        "s in which a changed tunnel must come up, else it is rolled back; 0: off",
    ),
    Setting("log_format", "WARREN_LOG_FORMAT", "--log-format", "", "json or console; default: by terminal"),
    Setting("log_level", "WARREN_LOG_LEVEL", "--log-level", "info", "debug, info, warning or error"),
)

# With the settings of the built-in drivers, which are options of the command.
ALL_SETTINGS = (*SETTINGS, *(setting for kind in BUILT_IN.values() for setting in kind.settings))
CLEARABLE = ("endpoints", "subnets")
HOST_SETTINGS = tuple(setting.name for setting in ALL_SETTINGS if setting.host)


@dataclass(frozen=True)
class AgentSettings:
    """All settings, checked."""

    state: Path
    servers: tuple[str, ...]  # empty: those of the enrolment
    cleartext: bool  # whether nats:// is accepted elsewhere than on the loopback
    peer: PeerId | None
    endpoints: tuple[Endpoint, ...]
    subnets: tuple[IPNetwork, ...]
    drivers: Mapping[str, Mapping[str, str]]  # settings by kind of driver
    one_way_after: float  # s; 0: off
    telemetry_limit: int  # bytes; 0: off
    probe: tuple[IPAddress, ...]
    guard: bool  # whether a guard must protect what is applied
    guard_socket: Path
    guard_devices: tuple[DeviceName, ...]
    path_hold_down: float  # s
    host_checks: bool  # whether kernel switches of this host are looked at
    path_probe: bool  # whether packets that get lost in a tunnel lead to another way
    confirm_within: float  # s; 0: off
    roll_back_after: float  # s; 0: off
    log_format: str
    log_level: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every setting as an option, and `--config` for the TOML file."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these settings")
    for setting in ALL_SETTINGS:
        default = f", default {setting.default}" if setting.default else ""
        parser.add_argument(
            setting.option,
            dest=setting.name,
            metavar=setting.option.removeprefix("--").upper(),
            help=f"{setting.meaning} [{setting.variable}{default}]",
        )


def given_settings(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command line and its surroundings say, as text; BadSettingError for a file that is wrong.

    A list that was given as empty is in it, empty.
    """
    variables = os.environ if environ is None else environ
    file = _read_file(options.get("config"))
    found = {
        setting.name: options.get(setting.name) or variables.get(setting.variable) or file.get(setting.name) or ""
        for setting in ALL_SETTINGS
    }
    # `--subnets ''` takes back what was given at the enrolment; an empty variable is one that nobody has set
    cleared = {name for name in CLEARABLE if options.get(name) == "" or (not found[name] and file.get(name) == "")}
    return {name: value for name, value in found.items() if value} | dict.fromkeys(cleared, "")


def state_folder(given: Mapping[str, str]) -> Path:
    """The state folder, which is known before what is kept in it."""
    return Path(given.get("state") or DEFAULT_STATE)


def check_settings(given: Mapping[str, str]) -> AgentSettings:
    """The settings of what was given, else by default; BadSettingError names the one that is wrong."""
    kinds = _split(given.get("driver") or DEFAULT_KIND)
    tables = {kind: _driver_kind(kind).settings for kind in kinds}
    _check_links(kinds)
    every = (*SETTINGS, *(setting for table in tables.values() for setting in table))
    values = {setting.name: given.get(setting.name) or setting.default for setting in every}
    return AgentSettings(
        state=state_folder(given),
        servers=_servers(values["nats_url"], values["nats_cleartext"]),
        cleartext=values["nats_cleartext"] == ALLOW,
        peer=_parse("peer", PeerId, values["peer"]) if values["peer"] else None,
        endpoints=_endpoints(values["endpoints"]),
        subnets=_parse("subnets", tuple[IPNetwork, ...], _split(values["subnets"])),
        drivers={kind: {setting.name: values[setting.name] for setting in table} for kind, table in tables.items()},
        one_way_after=_seconds("one_way_after", values["one_way_after"]),
        probe=_parse("probe", tuple[IPAddress, ...], _split(values["probe"])),
        telemetry_limit=_mebibytes("telemetry_limit", values["telemetry_limit"]),
        guard=_choice("guard", values["guard"], ("required", "off")) == "required",
        guard_socket=Path(values["guard_socket"]),
        guard_devices=_parse("guard_devices", tuple[DeviceName, ...], _split(values["guard_devices"])),
        path_hold_down=_seconds("path_hold_down", values["path_hold_down"]),
        host_checks=_choice("host_checks", values["host_checks"], ("on", "off")) == "on",
        path_probe=_choice("path_probe", values["path_probe"], ("on", "off")) == "on",
        confirm_within=_seconds("confirm_within", values["confirm_within"]),
        roll_back_after=_seconds("roll_back_after", values["roll_back_after"]),
        log_format=_choice("log_format", values["log_format"], ("", "json", "console")),
        log_level=_choice("log_level", values["log_level"].lower(), ("debug", "info", "warning", "error")),
    )


def _check_links(kinds: Sequence[str]) -> None:
    """Refuse two drivers for one kind of link: a tunnel would have no certain driver."""
    served: dict[str, str] = {}
    for kind in kinds:
        for link in _driver_kind(kind).links:
            if served.setdefault(link, kind) != kind:
                raise BadSettingError(f"driver: {served[link]} and {kind} both serve {link} links: use one of them")


def _driver_kind(kind: str) -> DriverKind:
    try:
        return find(kind)
    except UnknownDriverError as error:
        raise BadSettingError(str(error)) from None


def _read_file(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    import tomllib  # only where a file is used

    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise BadSettingError(f"{path}: more than {MAX_FILE:,} bytes, the limit of a settings file")
        document = tomllib.loads(text.decode())
    except OSError as error:
        raise BadSettingError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettingError(f"{path}: {error}") from None
    known = {setting.name for setting in ALL_SETTINGS}
    if unknown := sorted(document.keys() - known):
        raise BadSettingError(f"{path}: unknown setting {unknown[0]}; known are {', '.join(sorted(known))}")
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in document.items()}


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _endpoints(text: str) -> tuple[Endpoint, ...]:
    found: tuple[Endpoint, ...] = _parse("endpoints", tuple[EndpointText, ...], _split(text))
    for index, endpoint in enumerate(found):
        if endpoint in found[:index]:
            raise BadSettingError(f"endpoints: {endpoint} is listed twice: remove it")
        if not is_one_host(endpoint):
            raise BadSettingError(
                f"endpoints: {endpoint} is not a unicast address: give the address of this gateway, or none"
            )
    return found


def _servers(text: str, cleartext: str) -> tuple[str, ...]:
    allowed = _choice("nats_cleartext", cleartext, ("", ALLOW)) == ALLOW
    for server in _split(text):
        if wrong := wrong_server(server) or ("" if allowed else wrong_scheme(server)):
            raise BadSettingError(f"nats_url: {wrong}")
    return tuple(map(server_url, _split(text)))


def _parse(name: str, kind: Any, value: object) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        message = invalid_input(wrong).errors[0].message
        raise BadSettingError(f"{name}: {wrong[0]['input']!r}: {message}") from None


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise BadSettingError(f"{name}: {value!r} must be a number of seconds from 0 to {MAX_SECONDS:,}")
    return seconds


def _mebibytes(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= MAX_MEBIBYTES):
        raise BadSettingError(f"{name}: {value!r} must be a whole number of MiB from 0 to {MAX_MEBIBYTES:,}")
    return int(value) << 20


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadSettingError(f"{name}: {value!r} must be one of {', '.join(filter(None, allowed))}")
    return value


def platform() -> Platform:
    """What this host is."""
    if sys.platform == "darwin":
        return Platform.MACOS
    if sys.platform == "win32":
        return Platform.WINDOWS
    try:
        release = Path("/etc/os-release").read_text()
    except OSError:
        return Platform.LINUX
    return Platform.BOSS if "\nID=boss\n" in f"\n{release}" else Platform.LINUX
