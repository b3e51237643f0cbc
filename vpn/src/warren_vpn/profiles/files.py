"""Profiles as files: written as JSON, read as JSON or TOML."""

import json
import stat
import tomllib
from pathlib import Path

from pydantic import ValidationError

from warren_cli.errors import CliError
from warren_cli.files import read_small_text
from warren_vpn.profiles.profile import ClientProfile
from warren_vpn.validation import detail_of


class ProfileError(CliError):
    """The profile cannot be used."""


def parse_profile(text: str, what: str) -> ClientProfile:
    """Parse JSON, or TOML if it does not begin with a brace. ProfileError names the fields; `what` names the file."""
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{what}: neither JSON nor TOML ({error})") from None
    try:
        return ClientProfile.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise ProfileError(f"{what}: {detail_of(error)}") from None


def read_profile(path: Path) -> ClientProfile:
    """Read a profile. ProfileError: invalid, or one with a private key that others can read."""
    profile = parse_profile(read_small_text(path, "a profile", 4 << 20), str(path))
    if profile.has_secret and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ProfileError(f"{path}: holds a private key and can be read by others; chmod 600 {path}")
    return profile


def build_profile(profile: ClientProfile) -> str:
    """The text of a profile's file; what has its default is omitted but for the version."""
    values = json.loads(profile.model_dump_json(exclude_defaults=True))
    kinds = {"server_trust": profile.server_trust.kind, "login": profile.login.kind}
    for field, kind in kinds.items():
        values[field] = {"kind": kind, **values[field]}
    return json.dumps({"version": profile.version, **values}, indent=2) + "\n"
