"""Name constraints of certificate authorities (RFC 5280, 4.2.1.10 and 6.1.3 (b), (c)). Pure."""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from warren_ikev2.errors import AuthenticationError
from warren_ikev2.identity import Identity

Names = list[x509.GeneralName]


def check_name_constraints(issuer: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    """Check the certificates of a path below an authority, the end entity's first.

    Raises:
        AuthenticationError: a name is excluded or not permitted, or of a kind that the constraints limit and this program cannot
            compare.
    """
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    for depth, certificate in enumerate(below):
        if depth and certificate.issuer == certificate.subject:
            continue  # 6.1.3 (b): self-issued, and not the end entity's
        for name in _names(certificate):
            _check(name, constraints, Identity.from_subject(certificate), Identity.from_subject(issuer))


def _check(name: x509.GeneralName, constraints: x509.NameConstraints, owner: Identity, issuer: Identity) -> None:
    excluded = [base for base in constraints.excluded_subtrees or () if type(base) is type(name)]
    permitted = [base for base in constraints.permitted_subtrees or () if type(base) is type(name)]
    if not (excluded or permitted):
        return
    within = _WITHIN.get(type(name))
    if within is None:
        raise AuthenticationError(
            f"{issuer} constrains names of the kind {type(name).__name__}, which are not compared here: {owner} has one"
        )
    if any(within(name.value, base.value) for base in excluded):
        raise AuthenticationError(f"{issuer} excludes the name {_shown(name)} of {owner}")
    if permitted and not any(within(name.value, base.value) for base in permitted):
        raise AuthenticationError(f"{issuer} does not permit the name {_shown(name)} of {owner}")


def _names(certificate: x509.Certificate) -> Names:
    """The subject and the alternative names; a mail address in the subject where there are no alternative names."""
    names: Names = [x509.DirectoryName(certificate.subject)] if list(certificate.subject) else []
    try:
        names += certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        mails = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        names += [x509.RFC822Name(str(mail.value)) for mail in mails]
    return names


def _dns_within(name: str, base: str) -> bool:
    """The name itself, or with more labels on the left; a base with a leading dot needs one more label."""
    name, base = name.lower().rstrip("."), base.lower().rstrip(".")
    if base.startswith("."):
        return name.endswith(base)
    return not base or name == base or name.endswith(f".{base}")


def _mail_within(name: str, base: str) -> bool:
    """A mailbox, all mailboxes of a host, or with a leading dot of all hosts below a domain."""
    local, _, host = name.rpartition("@")
    base_local, at, base_host = base.rpartition("@")
    if at:
        return local == base_local and host.lower() == base_host.lower()
    return host.lower().endswith(base.lower()) if base.startswith(".") else host.lower() == base.lower()


def _address_within(address: Any, base: Any) -> bool:
    if not isinstance(base, IPv4Network | IPv6Network):
        return False
    if isinstance(address, IPv4Network | IPv6Network):
        return False  # a network does not name a host
    return address.version == base.version and address in base


def _directory_within(name: x509.Name, base: x509.Name) -> bool:
    """The base begins the name; attributes compare without case and repeated spaces (RFC 5280, 7.1)."""
    rdns, base_rdns = _comparable(name.rdns), _comparable(base.rdns)
    return rdns[: len(base_rdns)] == base_rdns


def _comparable(rdns: Iterable[x509.RelativeDistinguishedName]) -> list[frozenset[tuple[str, str]]]:
    return [
        frozenset((item.oid.dotted_string, " ".join(str(item.value).split()).lower()) for item in rdn) for rdn in rdns
    ]


def _shown(name: x509.GeneralName) -> str:
    return name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else str(name.value)


_WITHIN: dict[type[x509.GeneralName], Callable[[Any, Any], bool]] = {
    x509.DNSName: _dns_within,
    x509.RFC822Name: _mail_within,
    x509.IPAddress: _address_within,
    x509.DirectoryName: _directory_within,
}
