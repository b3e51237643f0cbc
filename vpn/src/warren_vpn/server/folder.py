"""The server's folder: what `warren vpn server init` writes into it, and its keys when the server reads them."""

import base64
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from warren_cli.files import read_small
from warren_ikev2.credentials import PrivateKey
from warren_process.atomic_file import write_atomically
from warren_trust.certificates import certificate_pem, issue, make_authority, names_of, normal_name, private_key_pem
from warren_vpn.profiles.credentials import CredentialError, read_private_key
from warren_vpn.server.errors import ServerError, ServerSettingError
from warren_vpn.server.settings import IDENTITY_PATTERN, ServerSettings, parse_settings

SETTINGS = "server.toml"
CERTIFICATE_LIFETIME = timedelta(days=825)
"""Of the server's certificate: the longest that Apple's clients accept from any CA (support.apple.com/HT210176)."""
MAX_PEM = 256 << 10

TEMPLATE = """\
# The VPN server. Every setting: docs/vpn.md. Check it with: warren vpn server check --config {settings}

# By which clients know this server: its domain name or address.
identity = "{identity}"

# UDP ports. Clients of other vendors expect these.
ike_port = 500
natt_port = 4500

# The server's own raw key, and a certificate for clients of other vendors. Paths are relative to this folder.
key = "server.key"
certificate = "server.crt"
certificate_key = "server-certificate.key"
client_ca = "ca.crt"

# Prometheus's text on 127.0.0.1; without this line there is none.
# metrics_port = 9410

# Folder of an enrolment (warren-agent enrol --state fleet): sessions are tunnels of that fleet.
# fleet = "fleet"

[tunnel]
# Addresses for clients; the first one of each network is the server's own.
pools = ["10.66.0.0/16", "fd66:77::/64"]
# What clients reach through the tunnel: everything (full tunnel), or some networks (split tunnel).
networks = ["0.0.0.0/0", "::/0"]
# DNS servers for clients.
dns = []
# Whether clients appear with the server's own address outside.
nat = true
client_to_client = false
# Whether clients reach services on the server's own host; ping, and DNS at the addresses of dns, they reach anyway.
server_services = false

[limits]
# A second connection of one user: "replace" the first, "refuse" it, or "keep" both.
same_user = "replace"
# Seconds of silence after which a client is offline.
inactivity_s = 60
# Of each client, each way, in megabits per second; without this line there is no limit.
# rate_mbit = 100
# From where clients may connect; empty: from anywhere.
allow_from = []

# Users with a raw key; those with a password or a certificate are made by `warren vpn user add`.
# [[user]]
# name = "alice"
# public_key = "Base64 of an Ed25519 key, from: warren vpn key new"
# addresses = ["10.66.0.10"]      # fixed
# networks = ["192.0.2.0/24"]     # what this user may reach
# rate_mbit = 20
"""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the server proves itself with."""

    raw: ed25519.Ed25519PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    certificate_key: PrivateKey | None = field(default=None, repr=False)
    client_authorities: tuple[x509.Certificate, ...] = ()

    @property
    def public_key(self) -> str:
        """Base64 of the raw public key, as clients' profiles have it."""
        return public_text(self.raw.public_key())


@dataclass(frozen=True, slots=True)
class MadeFolder:
    """What `init` has made."""

    settings: Path
    public_key: str
    authority: Path | None
    """The CA's certificate, which clients of other vendors install; None: the caller has given a certificate."""


def make_folder(folder: Path, identity: str, names: tuple[str, ...] = (), *, certificate: bool = True) -> MadeFolder:
    """Write keys, a CA with the server's certificate unless not wanted, and server.toml. Nothing that exists is replaced.

    `names`: further domain names and addresses of the server. Raises ServerError: the folder has a server already, or the disk
    does not take it.
    """
    path = folder / SETTINGS
    text = TEMPLATE.format(settings=path, identity=identity)
    if not certificate:
        text = "".join(
            line for line in text.splitlines(keepends=True) if not line.startswith(("certificate", "client_ca"))
        )
    if not re.fullmatch(IDENTITY_PATTERN, identity):
        raise ServerError(
            f"--identity: invalid identity {identity!r}: a domain name or an address, as vpn.example.org or 192.0.2.10"
        )
    settings = parse_settings(text, "--identity")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            raise ServerError(f"{path}: exists; edit it, or choose another folder")
        raw = ed25519.Ed25519PrivateKey.generate()
        authority = None
        if certificate:
            authority = folder / "ca.crt"
            _make_certificate(folder, identity, names)
        write_atomically(folder / settings.key, private_key_pem(raw))
        write_atomically(path, text.encode())  # last: a folder with it is complete
    except OSError as error:
        raise ServerError(f"{folder}: {error.strerror}") from None
    except ValueError as error:
        raise ServerError(f"--name: {error}") from None
    return MadeFolder(path, public_text(raw.public_key()), authority)


def _make_certificate(folder: Path, identity: str, names: tuple[str, ...]) -> None:
    now = datetime.now(UTC)
    authority = make_authority(now)
    issued = issue(authority, identity, (identity, *names), now, CERTIFICATE_LIFETIME)
    server, _ = x509.load_pem_x509_certificates(issued.chain_pem)
    write_atomically(folder / "ca.key", authority.key_pem)
    write_atomically(folder / "ca.crt", authority.pem, 0o644)
    write_atomically(folder / "server-certificate.key", issued.key_pem)
    write_atomically(folder / "server.crt", certificate_pem(server), 0o644)


def read_keys(folder: Path, settings: ServerSettings) -> Keys:
    """Read the keys and certificates that the settings name. ServerSettingError names the setting that is unusable."""
    raw = _private_key(folder / settings.key, "key")
    if not isinstance(raw, ed25519.Ed25519PrivateKey):
        raise ServerSettingError(f"key: {folder / settings.key}: must be an Ed25519 key")
    chain: tuple[x509.Certificate, ...] = ()
    certificate_key = None
    if settings.certificate is not None and settings.certificate_key is not None:
        chain = _certificates(folder / settings.certificate, "certificate")
        certificate_key = _private_key(folder / settings.certificate_key, "certificate_key")
        if chain[0].public_key() != certificate_key.public_key():
            raise ServerSettingError("certificate_key: does not belong to the first certificate of `certificate`")
        _check_identity(chain[0], settings.identity)
    authorities = _certificates(folder / settings.client_ca, "client_ca") if settings.client_ca is not None else ()
    return Keys(raw, chain, certificate_key, authorities)


def _check_identity(certificate: x509.Certificate, identity: str) -> None:
    """Clients of other vendors refuse a server whose certificate does not hold its identity (RFC 4945, 3.1)."""
    names = names_of(certificate)
    if not names:
        raise ServerSettingError("certificate: has no subjectAltName, which clients compare with `identity`")
    if normal_name(identity) not in names:
        raise ServerSettingError(
            f"certificate: is not for identity {identity!r}; its names: {', '.join(sorted(names))}"
        )


def _certificates(path: Path, setting: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(read_small(path, "a certificate", MAX_PEM)))
    except ValueError:
        raise ServerSettingError(f"{setting}: {path}: no certificate in PEM") from None


def _private_key(path: Path, setting: str) -> PrivateKey:
    try:
        return read_private_key(path, setting)
    except CredentialError as error:
        raise ServerSettingError(str(error)) from None


def public_text(key: ed25519.Ed25519PublicKey) -> str:
    """Base64 of the raw key."""
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
