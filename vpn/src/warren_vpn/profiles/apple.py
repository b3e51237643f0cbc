"""The configuration profile of Apple's clients (`.mobileconfig`), as com.apple.vpn.managed describes it. Pure.

Flags are integers. A user logs in by certificate, or by EAP-MSCHAPv2 with the NT hash; Apple's clients have no EAP-GTC. Exactly
one proposal is sent, so it must be one of the server's.
"""

import plistlib
import uuid

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from warren_vpn.profiles.facts import BuiltProfile, ProfileFile, Secrets, ServerFacts, UnsuitableProfileError
from warren_vpn.users.certificate import build_pkcs12
from warren_vpn.users.model import User

_NAMESPACE = uuid.UUID("6f1c7f0a-6a5a-5b3e-9b0e-2f8d6d3c5b12")
"""Of the ids of payloads: a new version of a profile replaces the former one."""
_PREFIX = "net.warren.vpn"
_SUITE = {"EncryptionAlgorithm": "AES-256-GCM", "IntegrityAlgorithm": "SHA2-384", "DiffieHellmanGroup": 19}
_IKE_MINUTES, _CHILD_MINUTES = 480, 60
_MTU = 1280
"""What every path carries; Apple allows up to 1400."""


def build(facts: ServerFacts, user: User, secrets: Secrets) -> BuiltProfile:
    """The profile. UnsuitableProfileError: the user has neither a certificate given `--with-key` nor an NT hash."""
    facts.require_standard_ports("Apple's client")
    authority = x509.load_pem_x509_certificates(facts.required_authority("Apple's client").encode())[0]
    scope = f"{facts.identity} {facts.name} {user.name}"
    root = _payload(
        "com.apple.security.root",
        scope,
        "ca",
        f"CA of {facts.identity}",
        {"PayloadContent": authority.public_bytes(Encoding.DER), "PayloadCertificateFileName": "ca.cer"},
    )
    payloads = [root]
    with_certificate = secrets.certificate is not None and secrets.passphrase is not None
    if with_certificate:
        payloads.append(_identity(user, secrets, scope))
        login: dict[str, object] = _certificate_login(user, str(payloads[1]["PayloadUUID"]), authority)
    elif user.nt_hash is not None:
        login = _password_login(user)
    else:
        raise UnsuitableProfileError(
            f"Apple's client needs a certificate (--certificate FILE --with-key), or an NT hash (warren vpn user passwd"
            f" {user.name} --mschapv2); it has no EAP-GTC"
        )
    payloads.append(_payload("com.apple.vpn.managed", scope, "vpn", facts.name, _vpn(facts, login)))
    profile = _payload("Configuration", scope, "profile", facts.name, {"PayloadContent": payloads})
    profile["PayloadScope"] = "User"
    name = f"{facts.name}-{user.name}.mobileconfig"
    content = plistlib.dumps(profile, sort_keys=False)
    steps = [f"open {name} on the device and install it in the settings (Profiles)"]
    if with_certificate:
        steps.append("the device asks for the passphrase of the key")
    return BuiltProfile((ProfileFile(name, content, with_certificate),), tuple(steps))


def _payload(kind: str, scope: str, part: str, title: str, content: dict[str, object]) -> dict[str, object]:
    number = uuid.uuid5(_NAMESPACE, f"{scope} {part}")
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{_PREFIX}.{number}",
        "PayloadUUID": str(number).upper(),
        "PayloadDisplayName": title,
        **content,
    }


def _identity(user: User, secrets: Secrets, scope: str) -> dict[str, object]:
    """The PKCS #12 without its passphrase: the device asks for it."""
    if secrets.certificate is None or secrets.passphrase is None:
        raise UnsuitableProfileError("no certificate is given")
    content = build_pkcs12(secrets.certificate, user.name, secrets.passphrase)
    fields: dict[str, object] = {"PayloadContent": content, "PayloadCertificateFileName": f"{user.name}.p12"}
    return _payload("com.apple.security.pkcs12", scope, "key", f"Key of {user.name}", fields)


def _certificate_login(user: User, payload: str, authority: x509.Certificate) -> dict[str, object]:
    identity = next((text for text in user.certificate_identities if "=" not in text), user.name)
    issuer = authority.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if not issuer:
        raise UnsuitableProfileError("Apple's client needs the common name of the server's CA, which has none")
    return {
        "AuthenticationMethod": "Certificate",
        "CertificateType": "ECDSA256",
        "PayloadCertificateUUID": payload,
        "LocalIdentifier": identity,
        # needed with CertificateType; also makes the client send CERTREQ
        "ServerCertificateIssuerCommonName": str(issuer[0].value),
    }


def _password_login(user: User) -> dict[str, object]:
    """EAP only: the device asks for the password."""
    return {
        "AuthenticationMethod": "None",
        "ExtendedAuthEnabled": 1,
        "AuthName": user.name,
        "LocalIdentifier": user.name,
    }


def _vpn(facts: ServerFacts, login: dict[str, object]) -> dict[str, object]:
    full = facts.is_full_tunnel
    ikev2: dict[str, object] = {
        "RemoteAddress": facts.servers[0].host,
        "RemoteIdentifier": facts.identity,
        **login,
        "DeadPeerDetectionRate": "Medium",
        "EnablePFS": 1,
        "DisableRedirect": 1,
        "MTU": _MTU,
        # a split tunnel takes its routes from the server's INTERNAL_IP4_SUBNET and INTERNAL_IP6_SUBNET
        "UseConfigurationAttributeInternalIPSubnet": 0 if full else 1,
        "IncludeAllNetworks": 1 if full else 0,
        "IKESecurityAssociationParameters": {**_SUITE, "LifeTimeInMinutes": _IKE_MINUTES},
        "ChildSecurityAssociationParameters": {**_SUITE, "LifeTimeInMinutes": _CHILD_MINUTES},
    }
    content: dict[str, object] = {"UserDefinedName": facts.name, "VPNType": "IKEv2", "IKEv2": ikev2}
    if facts.dns_servers:
        dns: dict[str, object] = {
            "DNSProtocol": "Cleartext",
            "ServerAddresses": [str(address) for address in facts.dns_servers],
        }
        if facts.search_domains:
            dns["SearchDomains"] = list(facts.search_domains)
        content["DNS"] = dns
    return content
