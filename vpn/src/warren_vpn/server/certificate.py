"""The server's certificate: how long it is valid, and another one of the same CA."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from warren_cli.files import read_small
from warren_trust.certificates import Authority, issue, names_of, read_authority
from warren_vpn.owned_file import replace_file
from warren_vpn.server.errors import ServerError
from warren_vpn.server.folder import CERTIFICATE_LIFETIME, Keys, read_keys
from warren_vpn.server.settings import read_settings

WARNED = timedelta(days=30)
"""Before the end: a month to notice it and to renew."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewed certificate."""

    path: Path
    expires: datetime


def expiry_of(keys: Keys) -> datetime | None:
    """When clients begin to refuse the server's certificate: the first end in its chain. None: it has none."""
    return min((certificate.not_valid_after_utc for certificate in keys.chain), default=None)


def warnings_of(keys: Keys, now: datetime) -> Iterator[str]:
    """What ends within a month or has ended: the server's certificate, and each CA of clients."""
    expires = expiry_of(keys)
    if expires is not None and expires - now < WARNED:
        yield f"certificate: {_end(expires, now)}; clients refuse it then: warren vpn server renew"
    for authority in keys.client_authorities:
        if authority.not_valid_after_utc - now < WARNED:
            name = authority.subject.rfc4514_string()
            yield f"client_ca: {name} {_end(authority.not_valid_after_utc, now)}, and with it the users' certificates"


def _end(at: datetime, now: datetime) -> str:
    days = (at - now).days
    when = f"{at:%Y-%m-%d}"
    return f"expires on {when}, in {days} days" if at > now else f"expired on {when}"


def renew(config: Path, ca: Path | None, ca_key: Path | None, now: datetime) -> Renewed:
    """Replace the server's certificate by one of the same CA, for the same names and the same key.

    `ca` and `ca_key`: None for those that `init` has made. ServerError: the settings name no certificate, or it is of another CA.
    """
    folder, settings = config.absolute().parent, read_settings(config)
    if settings.certificate is None:
        raise ServerError(
            "certificate: the settings name none: clients know this server by its raw key, which does not expire"
        )
    keys = read_keys(folder, settings)
    current, key, path = keys.chain[0], keys.certificate_key, folder / settings.certificate
    authority = _authority(ca or folder / "ca.crt", ca_key or folder / "ca.key", now)
    try:
        current.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        raise ServerError(f"certificate: {path} is of another CA; renew it where it was issued, then reload") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ServerError("certificate_key: must be an ECDSA key, as `warren vpn server init` makes it")
    issued = issue(authority, settings.identity, sorted(names_of(current)), now, CERTIFICATE_LIFETIME, key=key)
    made = x509.load_pem_x509_certificates(issued.chain_pem)[0]
    try:
        replace_file(path, made.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        raise ServerError(f"{path}: {error.strerror}") from None
    return Renewed(path, made.not_valid_after_utc)


def _authority(ca: Path, ca_key: Path, now: datetime) -> Authority:
    try:
        authority = read_authority(read_small(ca, "the CA's certificate"), read_small(ca_key, "the CA's key"))
    except (ValueError, TypeError) as error:
        raise ServerError(f"{ca}, {ca_key}: {error}") from None
    end = authority.certificate.not_valid_after_utc
    if end <= now:
        raise ServerError(f"{ca}: the CA expired on {end:%Y-%m-%d}: clients need a new one, and with it new profiles")
    return authority
