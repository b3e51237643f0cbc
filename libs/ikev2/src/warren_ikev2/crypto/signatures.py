"""Signatures of IKE_AUTH (RFC 7427; RFC 8420; RFC 4754 for peers without RFC 7427). SHA-1 is never used."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from warren_ikev2.constants import AuthMethod, SignatureHash
from warren_ikev2.credentials import PrivateKey, PublicKey
from warren_ikev2.errors import AuthenticationError

OUR_HASHES = (SignatureHash.SHA2_256, SignatureHash.SHA2_384, SignatureHash.SHA2_512, SignatureHash.IDENTITY)
MIN_RSA_BITS = 2048  # NIST SP 800-57, until 2030


class Kind(Enum):
    """Families of signatures."""

    ECDSA = "ecdsa"
    ED25519 = "ed25519"
    RSA_PSS = "rsa-pss"
    RSA_PKCS1 = "rsa-pkcs1"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A family and its hash."""

    kind: Kind
    hash: SignatureHash


_HASHES: dict[SignatureHash, hashes.HashAlgorithm] = {
    SignatureHash.SHA2_256: hashes.SHA256(),
    SignatureHash.SHA2_384: hashes.SHA384(),
    SignatureHash.SHA2_512: hashes.SHA512(),
}
_HASH_OIDS = {
    SignatureHash.SHA2_256: "608648016503040201",
    SignatureHash.SHA2_384: "608648016503040202",
    SignatureHash.SHA2_512: "608648016503040203",
}
_RSA_PSS_OID = "2a864886f70d01010a"
_MGF1_OID = "2a864886f70d010108"
_NULL = bytes.fromhex("0500")
_CURVES: dict[str, tuple[SignatureHash, AuthMethod]] = {
    "secp256r1": (SignatureHash.SHA2_256, AuthMethod.ECDSA_256),
    "secp384r1": (SignatureHash.SHA2_384, AuthMethod.ECDSA_384),
    "secp521r1": (SignatureHash.SHA2_512, AuthMethod.ECDSA_521),
}


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body  # all of ours are shorter than 128 bytes


def _pss_identifier(scheme_hash: SignatureHash, *, nulls: bool) -> bytes:
    """RFC 4055, 3.1; the hash's parameters are NULL or absent, readers accept both."""
    null = _NULL if nulls else b""
    digest = _der(0x30, _der(0x06, bytes.fromhex(_HASH_OIDS[scheme_hash])), null)
    mask = _der(0x30, _der(0x06, bytes.fromhex(_MGF1_OID)), digest)
    salt = _der(0x02, bytes([_HASHES[scheme_hash].digest_size]))
    parameters = _der(0x30, _der(0xA0, digest), _der(0xA1, mask), _der(0xA2, salt))
    return _der(0x30, _der(0x06, bytes.fromhex(_RSA_PSS_OID)), parameters)


_IDENTIFIERS: dict[Scheme, bytes] = {
    Scheme(Kind.ECDSA, SignatureHash.SHA2_256): bytes.fromhex("300a06082a8648ce3d040302"),
    Scheme(Kind.ECDSA, SignatureHash.SHA2_384): bytes.fromhex("300a06082a8648ce3d040303"),
    Scheme(Kind.ECDSA, SignatureHash.SHA2_512): bytes.fromhex("300a06082a8648ce3d040304"),
    Scheme(Kind.ED25519, SignatureHash.IDENTITY): bytes.fromhex("300506032b6570"),
    Scheme(Kind.RSA_PKCS1, SignatureHash.SHA2_256): bytes.fromhex("300d06092a864886f70d01010b0500"),
    Scheme(Kind.RSA_PKCS1, SignatureHash.SHA2_384): bytes.fromhex("300d06092a864886f70d01010c0500"),
    Scheme(Kind.RSA_PKCS1, SignatureHash.SHA2_512): bytes.fromhex("300d06092a864886f70d01010d0500"),
    **{Scheme(Kind.RSA_PSS, number): _pss_identifier(number, nulls=True) for number in _HASHES},
}
_SCHEMES = {
    **{blob: scheme for scheme, blob in _IDENTIFIERS.items()},
    **{_pss_identifier(number, nulls=False): Scheme(Kind.RSA_PSS, number) for number in _HASHES},
}


def identifier_of(scheme: Scheme) -> bytes:
    """The DER AlgorithmIdentifier that we send for a scheme (RFC 7427, 3 and appendix A)."""
    return _IDENTIFIERS[scheme]


def sign(key: PrivateKey, data: bytes, peer_hashes: Collection[int]) -> tuple[AuthMethod, bytes]:
    """Method and content of the AUTH payload.

    `peer_hashes` are those of the peer's SIGNATURE_HASH_ALGORITHMS, empty if it sent none.
    AuthenticationError: the peer understands no signature that this key can make.
    """
    if not peer_hashes:
        return _sign_classic(key, data)
    scheme = _choose(key, peer_hashes)
    blob = identifier_of(scheme)
    return AuthMethod.DIGITAL_SIGNATURE, bytes([len(blob)]) + blob + _sign(key, scheme, data)


def verify(key: PublicKey, method: int, content: bytes, data: bytes) -> None:
    """AuthenticationError: not this key's signature, or of a kind that we refuse."""
    try:
        if method == AuthMethod.DIGITAL_SIGNATURE:
            scheme, signature = _parse_signature(content)
            _verify(key, scheme, signature, data)
        else:
            _verify_classic(key, method, content, data)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise AuthenticationError("the signature does not verify") from error


def _choose(key: PrivateKey, peer_hashes: Collection[int]) -> Scheme:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        candidates = [Scheme(Kind.ED25519, SignatureHash.IDENTITY)]
    elif isinstance(key, rsa.RSAPrivateKey):
        candidates = [Scheme(Kind.RSA_PSS, number) for number in _HASHES]
    else:
        preferred = _CURVES.get(key.curve.name, (SignatureHash.SHA2_256, None))[0]
        numbers = sorted(_HASHES, key=lambda number: (number != preferred, -number))
        candidates = [Scheme(Kind.ECDSA, number) for number in numbers]
    for scheme in candidates:
        if scheme.hash in peer_hashes:
            return scheme
    raise AuthenticationError("the peer supports no signature hash that our key can use")


def _sign(key: PrivateKey, scheme: Scheme, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    digest = _HASHES[scheme.hash]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return key.sign(data, ec.ECDSA(digest))


def _sign_classic(key: PrivateKey, data: bytes) -> tuple[AuthMethod, bytes]:
    """RFC 4754: r and s side by side; only ECDSA has a method without SHA-1."""
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise AuthenticationError("the peer does not support RFC 7427 signatures, which our key needs")
    number, method = _CURVES[key.curve.name]
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_HASHES[number])))
    size = (key.curve.key_size + 7) // 8
    return method, r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _parse_signature(content: bytes) -> tuple[Scheme, bytes]:
    size = content[0] if content else 0
    scheme = _SCHEMES.get(content[1 : 1 + size])
    if scheme is None:
        raise AuthenticationError("the peer signs with an algorithm that we refuse")
    return scheme, content[1 + size :]


def _verify(key: PublicKey, scheme: Scheme, signature: bytes, data: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey) and scheme.kind == Kind.ED25519:
        key.verify(signature, data)
    elif isinstance(key, ec.EllipticCurvePublicKey) and scheme.kind == Kind.ECDSA:
        key.verify(signature, data, ec.ECDSA(_HASHES[scheme.hash]))
    elif isinstance(key, rsa.RSAPublicKey) and scheme.kind in (Kind.RSA_PSS, Kind.RSA_PKCS1):
        _verify_rsa(key, scheme, signature, data)
    else:
        raise AuthenticationError("the signature's algorithm does not fit the peer's key")


def _verify_rsa(key: rsa.RSAPublicKey, scheme: Scheme, signature: bytes, data: bytes) -> None:
    if key.key_size < MIN_RSA_BITS:
        raise AuthenticationError(f"the peer's RSA key has {key.key_size} bits; {MIN_RSA_BITS} are needed")
    digest = _HASHES[scheme.hash]
    if scheme.kind == Kind.RSA_PSS:
        key.verify(signature, data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    else:
        key.verify(signature, data, padding.PKCS1v15(), digest)


def _verify_classic(key: PublicKey, method: int, content: bytes, data: bytes) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise AuthenticationError("the peer's authentication method does not fit its key")
    number, expected = _CURVES[key.curve.name]
    half = (key.curve.key_size + 7) // 8
    if method != expected or len(content) != 2 * half:
        raise AuthenticationError("the peer's authentication method does not fit its key")
    r, s = int.from_bytes(content[:half], "big"), int.from_bytes(content[half:], "big")
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(_HASHES[number]))
