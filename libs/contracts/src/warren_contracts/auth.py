"""Authentication of the two ends of an IKE_SA (RFC 7296, 2.15): in a policy, and in a tunnel.

No model holds a secret: keys are public, and a PSK or a password is referenced by name.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from warren_contracts.base import Document, Input
from warren_contracts.identities import Identity
from warren_contracts.names import PublicKey, SecretName


class EapMethod(StrEnum):
    """EAP methods (RFC 3748), by strongSwan's names."""

    MSCHAPV2 = "eap-mschapv2"
    TLS = "eap-tls"
    GTC = "eap-gtc"


class Revocation(StrEnum):
    """How a peer is treated if the revocation status of its certificate is unknown."""

    STRICT = "strict"  # refused
    IFURI = "ifuri"  # refused if the certificate has a CRL or OCSP URI
    RELAXED = "relaxed"  # accepted


class RawKeyPolicy(Input, defer_build=True):
    """Raw Ed25519 public keys, announced by the peers (RFC 7427 and 8420): the default."""

    kind: Literal["raw-key"] = "raw-key"


class CertificatePolicy(Input, defer_build=True):
    """X.509 certificates of one authority."""

    kind: Literal["certificate"]
    authority: SecretName
    revocation: Revocation = Revocation.RELAXED


class PskPolicy(Input, defer_build=True):
    """A pre-shared key, by the name of its secret."""

    kind: Literal["psk"]
    secret: SecretName


class EapPolicy(Input, defer_build=True):
    """EAP for the end that initiates, by the name of its secret."""

    kind: Literal["eap"]
    method: EapMethod
    secret: SecretName


AuthPolicy = Annotated[RawKeyPolicy | CertificatePolicy | PskPolicy | EapPolicy, Field(discriminator="kind")]


class RawKeyAuth(Document, defer_build=True):
    """One end proves that it has the private key of a raw Ed25519 public key."""

    kind: Literal["raw-key"] = "raw-key"
    identity: Identity
    public_key: PublicKey


class CertificateAuth(Document, defer_build=True):
    """One end proves that it has the private key of a certificate that `authority` issued."""

    kind: Literal["certificate"] = "certificate"
    identity: Identity
    authority: SecretName
    revocation: Revocation = Revocation.RELAXED


class PskAuth(Document, defer_build=True):
    """One end proves that it knows a pre-shared key."""

    kind: Literal["psk"] = "psk"
    identity: Identity
    secret: SecretName


class EapAuth(Document, defer_build=True):
    """One end proves its identity by an EAP method."""

    kind: Literal["eap"] = "eap"
    identity: Identity
    method: EapMethod
    secret: SecretName
    eap_identity: Identity | None = None


Auth = Annotated[RawKeyAuth | CertificateAuth | PskAuth | EapAuth, Field(discriminator="kind")]
EndAuth = RawKeyAuth | CertificateAuth | PskAuth | EapAuth
EndAuthPolicy = RawKeyPolicy | CertificatePolicy | PskPolicy | EapPolicy
