"""Profiles of strongSwan's clients: a swanctl.conf for Linux, and a .sswan file for Android. Pure.

Sources: swanctl.conf(5) of strongSwan 5.9; docs.strongswan.org, "VPN Profile Import for the Android VPN Client".
"""

import base64
import json
import uuid

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from warren_contracts.identities import explicit
from warren_vpn.profiles.facts import (
    ESP_PROPOSAL,
    IKE_PROPOSAL,
    BuiltProfile,
    ProfileFile,
    Secrets,
    ServerFacts,
    UnsuitableProfileError,
)
from warren_vpn.profiles.profile import ProfileServer
from warren_vpn.users.certificate import build_pkcs12
from warren_vpn.users.model import User

ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  which addresses the client asks for
_NAMESPACE = uuid.UUID("6f1c7f0a-6a5a-5b3e-9b0e-2f8d6d3c5b11")
"""Of the ids of profiles: the same profile has the same id, so that it replaces its former version."""


def build(facts: ServerFacts, user: User, secrets: Secrets) -> BuiltProfile:
    """swanctl.conf with the keys next to it and, if the server has a certificate, the Android profile."""
    name = f"{facts.name}-{user.name}"
    files = [ProfileFile(f"{name}.conf", _swanctl(facts, user, name).encode()), _trust(facts, user, name)]
    steps = [f"cp {name}.conf /etc/swanctl/conf.d/"]
    steps.append(f"cp {files[1].name} /etc/swanctl/{'pubkey' if facts.proves_by_raw_key(user) else 'x509ca'}/")
    if _method(user) == "pubkey":
        steps.append(f"put the user's private key into /etc/swanctl/private/{user.name}.key, mode 0600")
        if secrets.private_key is not None:
            files.append(ProfileFile(f"{user.name}.key", secrets.private_key.encode(), secret=True))
        files += _own_public(user, secrets, name)
        folder = "pubkey" if user.public_key is not None else "x509"
        steps += [f"cp {file.name} /etc/swanctl/{folder}/" for file in files[2:] if not file.secret]
    else:
        secret = (
            f'secrets {{ eap-{_section(name)} {{ id = {_quoted(user.name)}; secret = "..." }} }}, a line each brace'
        )
        steps.append(f"write the password into /etc/swanctl/conf.d/{name}-secret.conf, mode 0600: {secret}")
    steps.append(f"swanctl --load-all && swanctl --initiate --child {_section(name)}")
    if facts.authority_pem is not None and (user.password is not None or secrets.certificate is not None):
        files.append(_android(facts, user, secrets, name))
        steps.append(f"Android: open {name}.sswan with the strongSwan app")
    return BuiltProfile(tuple(files), tuple(steps))


def _method(user: User) -> str:
    if user.public_key is not None or user.password is None:
        return "pubkey"
    return "eap-gtc"


def _trust(facts: ServerFacts, user: User, name: str) -> ProfileFile:
    if facts.authority_pem is None or facts.proves_by_raw_key(user):
        return ProfileFile(f"{name}-server.pem", _public_pem(facts.public_key))
    return ProfileFile(f"{name}-ca.pem", facts.authority_pem.encode())


def _own_public(user: User, secrets: Secrets, name: str) -> list[ProfileFile]:
    if user.public_key is not None:
        return [ProfileFile(f"{name}.pub", _public_pem(user.public_key))]
    if secrets.certificate is None:
        raise UnsuitableProfileError(
            f"user {user.name!r} logs in by certificate: give it with --certificate (warren vpn user certificate makes one)"
        )
    return [ProfileFile(f"{name}.pem", secrets.certificate.chain_pem.encode())]


def _public_pem(key: str) -> bytes:
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _swanctl(facts: ServerFacts, user: User, name: str) -> str:
    """swanctl.conf. All values are validated names, addresses and networks: none can end a line or a brace."""
    trust = f"pubkeys = {name}-server.pem" if facts.proves_by_raw_key(user) else f"cacerts = {name}-ca.pem"
    routes = ", ".join(map(str, facts.routes))
    versions = sorted({network.version for network in facts.routes})
    vips = ", ".join(ANY[version] for version in versions)
    return f"""\
# {facts.name}: the VPN server {facts.identity}, for user {user.name}. Compression stays off: the server refuses it.
connections {{
  {_section(name)} {{
    version = 2
    remote_addrs = {", ".join(one.host for one in facts.servers)}
    remote_port = {facts.first_port}
    vips = {vips}
    proposals = {IKE_PROPOSAL}
    dpd_delay = 30s
    local {{
      {_local(user, name)}
    }}
    remote {{
      auth = pubkey
      id = {_quoted(explicit(facts.identity))}
      {trust}
    }}
    children {{
      {_section(name)} {{
        remote_ts = {routes}
        esp_proposals = {ESP_PROPOSAL}, aes256gcm16
        start_action = none
      }}
    }}
  }}
}}
"""


def _local(user: User, name: str) -> str:
    if _method(user) == "eap-gtc":
        lines = ["auth = eap-gtc", f"id = {_quoted(explicit(user.name))}", f"eap_id = {_quoted(user.name)}"]
    elif user.public_key is not None:
        lines = ["auth = pubkey", f"id = {_quoted(explicit(user.name))}", f"pubkeys = {name}.pub"]
    else:
        identity = user.certificate_identities[0]
        lines = ["auth = pubkey", f"id = {_quoted(explicit(identity))}", f"certs = {name}.pem"]
    return "\n      ".join(lines)


def _section(name: str) -> str:
    """A section's name holds letters, digits, - and _; others have a meaning."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


def _android(facts: ServerFacts, user: User, secrets: Secrets, name: str) -> ProfileFile:
    authority = x509.load_pem_x509_certificates(facts.required_authority("Android").encode())[0]
    by_password = user.password is not None
    server: ProfileServer = facts.servers[0]
    document: dict[str, object] = {
        "uuid": str(uuid.uuid5(_NAMESPACE, f"{facts.identity} {name}")),
        "name": facts.name,
        "type": "ikev2-eap" if by_password else "ikev2-cert",
        "remote": {
            "addr": server.host,
            "port": facts.first_port,
            "id": facts.identity,
            "cert": base64.b64encode(authority.public_bytes(Encoding.DER)).decode(),
        },
        "local": {"eap_id": user.name} if by_password else _android_certificate(user, secrets),
        "ike-proposal": IKE_PROPOSAL,
        "esp-proposal": ESP_PROPOSAL,
    }
    if facts.dns_servers:
        document["dns-servers"] = [str(address) for address in facts.dns_servers]
    document["split-tunneling"] = _split(facts)
    secret = not by_password and secrets.passphrase is not None
    return ProfileFile(f"{name}.sswan", (json.dumps(document, indent=2) + "\n").encode(), secret)


def _split(facts: ServerFacts) -> dict[str, object]:
    """A full tunnel also blocks the IP version that it does not carry, which would leave in clear."""
    if facts.is_full_tunnel:
        return {"block-ipv4": True, "block-ipv6": True}
    return {"subnets": [str(network) for network in facts.routes]}


def _android_certificate(user: User, secrets: Secrets) -> dict[str, object]:
    local: dict[str, object] = {"id": user.certificate_identities[0] if user.certificate_identities else user.name}
    if secrets.certificate is not None and secrets.passphrase is not None:
        local["p12"] = base64.b64encode(build_pkcs12(secrets.certificate, user.name, secrets.passphrase)).decode()
    return local
