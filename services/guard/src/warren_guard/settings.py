"""The guard's settings: from its command line, else the environment, else a default."""

import argparse
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from warren_guard.errors import BadSettingError

DEFAULT_SOCKET = "/run/warren-guard/guard.sock"


class Setting(NamedTuple):
    """One setting: its variable, its option, its default and its meaning."""

    name: str
    variable: str
    option: str
    default: str
    meaning: str


SETTINGS = (
    Setting("state", "WARREN_GUARD_STATE", "--state", "/var/lib/warren-guard", "folder (0700) of the last table"),
    Setting("socket", "WARREN_GUARD_SOCKET", "--socket", DEFAULT_SOCKET, "Unix socket for the agent"),
    Setting("agent_user", "WARREN_AGENT_USER", "--agent-user", "root", "user of the agent, besides root"),
    Setting(
        "masquerade", "WARREN_GUARD_MASQUERADE", "--masquerade", "fix",
        "fix: except protected traffic from source NAT; report: only name the rule",
    ),
    Setting("log_format", "WARREN_LOG_FORMAT", "--log-format", "", "json or console; default: by terminal"),
    Setting("log_level", "WARREN_LOG_LEVEL", "--log-level", "info", "debug, info, warning or error"),
)  # fmt: skip


@dataclass(frozen=True)
class GuardSettings:
    """All settings, checked. `users` may speak to the guard."""

    state: Path
    socket: Path
    users: frozenset[int]
    keep_sources: bool
    log_format: str
    log_level: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every setting as an option."""
    for setting in SETTINGS:
        default = f", default {setting.default}" if setting.default else ""
        parser.add_argument(
            setting.option, dest=setting.name, metavar=setting.option.removeprefix("--").upper().replace("-", "_"),
            help=f"{setting.meaning} [{setting.variable}{default}]",
        )  # fmt: skip


def check_settings(options: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> GuardSettings:
    """The settings; BadSettingError names the one that is wrong."""
    variables = os.environ if environ is None else environ
    given = {it.name: options.get(it.name) or variables.get(it.variable) or it.default for it in SETTINGS}
    return GuardSettings(
        state=Path(given["state"]),
        socket=Path(given["socket"]),
        users=frozenset({0, _user(given["agent_user"])}),
        keep_sources=_choice("masquerade", given["masquerade"], ("fix", "report")) == "fix",
        log_format=_choice("log_format", given["log_format"], ("", "json", "console")),
        log_level=_choice("log_level", given["log_level"].lower(), ("debug", "info", "warning", "error")),
    )


def _user(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise BadSettingError(f"agent_user: unknown user {name!r}: create it, or name another") from None


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadSettingError(f"{name}: {value!r} must be one of {', '.join(filter(None, allowed))}")
    return value
