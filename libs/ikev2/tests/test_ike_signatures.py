"""Signatures: RFC 7427, and what came before it."""

import pytest

from warren_ikev2.constants import AuthMethod
from warren_ikev2.credentials import PrivateKey
from warren_ikev2.crypto.signatures import sign, verify
from warren_ikev2.errors import AuthenticationError
from warren_testkit.ikev2.keys import make_key

RFC_7427 = {  # Appendix A
    ("ecdsa-p256", 2): "300a06082a8648ce3d040302",
    ("ecdsa-p384", 3): "300a06082a8648ce3d040303",
    ("rsa-2048", 2): "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108"
    "300d06096086480165030402010500a203020120",
    ("ed25519", 5): "300506032b6570",  # RFC 8420
}


@pytest.fixture(scope="module")
def signers() -> dict[str, PrivateKey]:
    return {kind: make_key(kind) for kind in ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519")}


@pytest.mark.parametrize(("kind", "number"), RFC_7427)
def test_signatures_carry_their_algorithm(signers: dict[str, PrivateKey], kind: str, number: int) -> None:
    key = signers[kind]
    method, content = sign(key, b"octets", {number})
    identifier = bytes.fromhex(RFC_7427[kind, number])
    assert method == AuthMethod.DIGITAL_SIGNATURE
    assert content[: 1 + len(identifier)] == bytes([len(identifier)]) + identifier
    verify(key.public_key(), method, content, b"octets")
    for damaged in (
        content[:-1],
        content[:-1] + bytes([content[-1] ^ 1]),
        content[1:],
        b"",
        b"\xff",
        content[:1] + bytes(len(content) - 1),
    ):
        with pytest.raises(AuthenticationError):
            verify(key.public_key(), method, damaged, b"octets")
    with pytest.raises(AuthenticationError):
        verify(key.public_key(), method, content, b"other octets")


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384"])
def test_ecdsa_without_rfc_7427(signers: dict[str, PrivateKey], kind: str) -> None:
    key = signers[kind]
    method, content = sign(key, b"octets", set())
    assert method == (AuthMethod.ECDSA_256 if kind == "ecdsa-p256" else AuthMethod.ECDSA_384)
    verify(key.public_key(), method, content, b"octets")
    with pytest.raises(AuthenticationError):
        verify(key.public_key(), AuthMethod.ECDSA_521, content, b"octets")


@pytest.mark.parametrize(
    ("kind", "hashes"), [("ed25519", {2, 3, 4}), ("rsa-2048", {1}), ("ed25519", set()), ("rsa-2048", set())]
)
def test_no_common_signature_is_an_error(signers: dict[str, PrivateKey], kind: str, hashes: set[int]) -> None:
    with pytest.raises(AuthenticationError):
        sign(signers[kind], b"octets", hashes)


def test_a_signature_of_another_kind_of_key_is_refused(signers: dict[str, PrivateKey]) -> None:
    method, content = sign(signers["ed25519"], b"octets", {5})
    for kind in ("ecdsa-p256", "rsa-2048"):
        with pytest.raises(AuthenticationError):
            verify(signers[kind].public_key(), method, content, b"octets")


def test_sha1_signatures_are_refused(signers: dict[str, PrivateKey]) -> None:
    sha1_with_rsa = bytes.fromhex("300d06092a864886f70d0101050500")
    content = bytes([len(sha1_with_rsa)]) + sha1_with_rsa + bytes(256)
    for method, data in ((AuthMethod.DIGITAL_SIGNATURE, content), (AuthMethod.RSA_SIGNATURE, bytes(256))):
        with pytest.raises(AuthenticationError):
            verify(signers["rsa-2048"].public_key(), method, data, b"octets")
