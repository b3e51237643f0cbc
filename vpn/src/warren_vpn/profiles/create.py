"""What `warren vpn profile` does: collect the facts, build the files, write them. The command's options are in `commands`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import typer
from cryptography import x509
from pydantic import ValidationError

from warren_cli.files import read_small, read_small_text
from warren_cli.remote.render import joined, print_fields
from warren_process.atomic_file import write_atomically
from warren_vpn.profiles import apple, strongswan, warren, windows
from warren_vpn.profiles.credentials import parse_private_key
from warren_vpn.profiles.facts import (
    BuiltProfile,
    Secrets,
    ServerFacts,
    UnsuitableProfileError,
    require_enabled,
)
from warren_vpn.profiles.files import read_profile
from warren_vpn.profiles.profile import MAX_PEM, ClientProfile, ProfileServer
from warren_vpn.profiles.qr import check_ending, make_code, terminal_text, write_code
from warren_vpn.server.folder import read_keys
from warren_vpn.server.settings import ServerSettings, read_settings
from warren_vpn.users.certificate import read_certificate
from warren_vpn.users.edits import find
from warren_vpn.users.model import User
from warren_vpn.users.prompt import read_password
from warren_vpn.users.store import UserFile
from warren_vpn.validation import detail_of


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """The options of `warren vpn profile create`."""

    user: str
    client: str
    servers: tuple[str, ...]
    name: str
    search_domains: tuple[str, ...]
    kill_switch: bool
    certificate: Path | None
    key: Path | None
    with_key: bool
    qr: bool
    qr_file: Path | None
    out: Path
    force: bool
    ca_file: Path | None
    users: Path
    config: Path = field(default_factory=Path)


def create(wanted: ProfileOptions) -> Iterator[str]:
    """Write the files of a profile; yields what to do with them. CliError: the user or the server does not suit the client."""
    _check_options(wanted)
    user = find(UserFile(wanted.users), wanted.user)
    require_enabled(user)
    settings = read_settings(wanted.config)
    try:
        facts = _facts(wanted, settings, user)
        built, profile = _build(wanted, facts, user, _secrets(wanted, facts))
    except ValidationError as error:
        raise UnsuitableProfileError(detail_of(error)) from None
    code = make_code(profile) if profile is not None and (wanted.qr or wanted.qr_file is not None) else None
    yield from _write(wanted, built)
    if code is not None and profile is not None:
        if wanted.qr:
            typer.echo(terminal_text(code), nl=False)
        if wanted.qr_file is not None:
            write_code(code, wanted.qr_file, profile.has_secret)
            yield f"{wanted.qr_file} written"
    yield from (f"{number}. {step}" for number, step in enumerate(built.steps, 1))


def show(path: Path, as_json: bool) -> None:
    """Print a profile without its private key."""
    profile = read_profile(path)
    if as_json:
        values = json.loads(profile.model_dump_json())
        values["login"].pop("private_key", None)
        typer.echo(json.dumps(values, indent=2))
        return
    print_fields(
        [
            ("name", profile.name),
            ("servers", joined(f"{server.host}:{server.port}" for server in profile.servers)),
            ("server identity", profile.server_identity),
            ("server trust", profile.server_trust.kind),
            ("identity", profile.identity),
            ("login", profile.login.kind + (", with its private key" if profile.has_secret else "")),
            ("routes", joined(profile.routes)),
            ("DNS servers", joined(profile.dns_servers)),
            ("search domains", joined(profile.search_domains)),
            ("kill switch", "on" if profile.kill_switch else "off"),
            ("keepalive", f"{profile.keepalive_s} s"),
            ("inactivity", f"{profile.inactivity_s} s"),
        ]
    )


def _check_options(wanted: ProfileOptions) -> None:
    if (wanted.qr or wanted.qr_file is not None) and wanted.client != "warren":
        raise UnsuitableProfileError(
            f"--qr: only for Warren's client; the profile of {wanted.client} is installed from its file"
        )
    if wanted.kill_switch and wanted.client != "warren":
        raise UnsuitableProfileError(
            f"--kill-switch: only for Warren's client; {wanted.client} has a setting of its own"
        )
    if wanted.qr_file is not None:
        check_ending(wanted.qr_file)
    if wanted.with_key and wanted.key is None:
        raise UnsuitableProfileError(
            "--with-key: needs --key FILE, the user's private key; the server does not have it"
        )


def _facts(wanted: ProfileOptions, settings: ServerSettings, user: User) -> ServerFacts:
    keys = read_keys(wanted.config.parent, settings)
    hosts = wanted.servers or (settings.identity,)
    authority = None
    if settings.certificate is not None:
        path = wanted.ca_file or wanted.config.parent / (settings.client_ca or "ca.crt")
        authority = read_small_text(path, "the CA's certificate", MAX_PEM)
    return ServerFacts(
        name=wanted.name,
        servers=tuple(ProfileServer(host=host, port=settings.natt_port, ike_port=settings.ike_port) for host in hosts),
        identity=settings.identity,
        public_key=keys.public_key,
        authority_pem=authority,
        routes=_routes(settings, user),
        dns_servers=settings.tunnel.dns,
        search_domains=wanted.search_domains,
    )


def _routes(settings: ServerSettings, user: User) -> tuple[IPv4Network | IPv6Network, ...]:
    """What the user may reach, of the IP versions in which the server gives addresses."""
    versions = {pool.version for pool in settings.tunnel.pools}
    found = tuple(network for network in user.networks or settings.tunnel.networks if network.version in versions)
    if not found:
        raise UnsuitableProfileError(
            f"user {user.name!r}: its networks have an IP version for which the server has no pool"
        )
    return found


def _secrets(wanted: ProfileOptions, facts: ServerFacts) -> Secrets:
    """The key and certificate that are given; a passphrase is only read where a container needs one."""
    private = None
    if wanted.with_key and wanted.key is not None:
        content = read_small(wanted.key, "the private key")
        parse_private_key(content, f"--key: {wanted.key}")
        private = content.decode("ascii")
    if wanted.certificate is None:
        return Secrets(private_key=private)
    if wanted.key is None:
        raise UnsuitableProfileError("--certificate: needs --key FILE, its private key")
    authority = x509.load_pem_x509_certificates(facts.required_authority("--certificate").encode())[0]
    content = read_small(wanted.certificate, "the certificate", MAX_PEM)
    own = read_certificate(content, read_small(wanted.key, "the private key"), authority)
    container = private is not None and wanted.client != "warren"
    passphrase = read_password("passphrase for the key's container", confirm=True) if container else None
    return Secrets(own, passphrase, private)


def _build(
    wanted: ProfileOptions, facts: ServerFacts, user: User, secrets: Secrets
) -> tuple[BuiltProfile, ClientProfile | None]:
    if wanted.client == "warren":
        profile = warren.make_profile(facts, user, secrets, kill_switch=wanted.kill_switch)
        return warren.build(profile, user), profile
    builders = {"strongswan": strongswan.build, "apple": apple.build, "windows": windows.build}
    return builders[wanted.client](facts, user, secrets), None


def _write(wanted: ProfileOptions, built: BuiltProfile) -> Iterator[str]:
    paths = [wanted.out / file.name for file in built.files]
    taken = [path for path in paths if path.exists()]
    if taken and not wanted.force:
        raise UnsuitableProfileError(f"{taken[0]}: exists; use --force to replace it")
    try:
        wanted.out.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, file in zip(paths, built.files, strict=True):
            write_atomically(path, file.content, 0o600 if file.secret else 0o644)
            yield f"{path} written" + (" (holds a private key)" if file.secret else "")
    except OSError as error:
        raise UnsuitableProfileError(f"--out: {error.filename}: {error.strerror}") from None
