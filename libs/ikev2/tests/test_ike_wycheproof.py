"""Project Wycheproof's vectors (C2SP/wycheproof, Apache-2.0) through our own wrappers.

They are not part of this repository: the environment variable WYCHEPROOF names the folder `testvectors_v1` of a checkout
(written against commit dac1dd4729fd), and without it these tests are skipped. `valid` must give the published result,
`invalid` must be refused by a typed error; for `acceptable` either will do.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from warren_ikev2.children import EspKeys
from warren_ikev2.constants import AuthMethod, Encr, Integ, KeGroup, Prf, SignatureHash
from warren_ikev2.credentials import PublicKey
from warren_ikev2.crypto.groups import (
    EcpExchange,
    Exchange,
    MlKem768Exchange,
    MlKem1024Exchange,
    X448Exchange,
    X25519Exchange,
    finish,
    respond,
)
from warren_ikev2.crypto.prf import prf
from warren_ikev2.crypto.signatures import Kind, Scheme, identifier_of, verify
from warren_ikev2.crypto.sk import AeadSk
from warren_ikev2.errors import AuthenticationError, IkeError, IntegrityError, MalformedMessageError, ProtocolError
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.transforms import build_transform
from warren_ikev2.suites import EspSuite

if "WYCHEPROOF" not in os.environ:
    pytest.skip("WYCHEPROOF does not name the testvectors_v1 of a checkout of C2SP/wycheproof", allow_module_level=True)
FOLDER = Path(os.environ["WYCHEPROOF"])
Case = dict[str, Any]
Refusals = type[IkeError] | tuple[type[IkeError], ...]
T = TypeVar("T")


def cases(name: str, **fields: Any) -> Iterator[tuple[Case, Case]]:
    """Each case with its group, of the groups with these fields."""
    groups = json.loads((FOLDER / f"{name}_test.json").read_text())["testGroups"]
    fitting = [group for group in groups if all(group[key] == value for key, value in fields.items())]
    assert fitting, f"{name} has no group with {fields}"
    for group in fitting:
        yield from ((group, case) for case in group["tests"])


def field(case: Case, name: str) -> bytes:
    return bytes.fromhex(case[name])


def outcome(refusals: Refusals, action: Callable[..., T], *arguments: Any) -> T | None:
    """What the action returns, or None where it refuses by one of the typed errors."""
    try:
        return action(*arguments)
    except refusals:
        return None


def is_right(case: Case, found: Any, expected: Any) -> bool:
    verdicts: dict[str, bool] = {
        "valid": found == expected,
        "invalid": found is None,
        "acceptable": found in (None, expected),
    }
    return verdicts[case["result"]]


def show(case: Case, found: Any) -> str:
    return f"{case['tcId']} {case['flags']} {case['result']}: {found!r:.60}"


# Key exchange


def ecp(curve: ec.EllipticCurve) -> Callable[[bytes], Exchange]:
    return lambda private: EcpExchange(curve, int.from_bytes(private, "big"))


EXCHANGES: dict[str, Callable[[bytes], Exchange]] = {
    "x25519": lambda private: X25519Exchange(x25519.X25519PrivateKey.from_private_bytes(private)),
    "x448": lambda private: X448Exchange(x448.X448PrivateKey.from_private_bytes(private)),
    "ecdh_secp256r1_ecpoint": ecp(ec.SECP256R1()),
    "ecdh_secp384r1_ecpoint": ecp(ec.SECP384R1()),
    "ecdh_secp521r1_ecpoint": ecp(ec.SECP521R1()),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_diffie_hellman(name: str) -> None:
    wrong = []
    for _, case in cases(name):
        peer = field(case, "public")
        if name.startswith("ecdh") and peer[:1] == b"\x04":
            peer = peer[1:]  # RFC 5903, 7: x and y alone; a compressed point stays whole, and must be refused
        found = outcome(ProtocolError, finish, EXCHANGES[name](field(case, "private")), peer)
        compressed = name.startswith("ecdh") and field(case, "public")[:1] in (b"\x02", b"\x03")
        if not (found is None if compressed else is_right(case, found, field(case, "shared"))):
            wrong.append(show(case, found))
        if name.startswith("x") and found is not None and not any(found):
            wrong.append(f"{show(case, found)}: a zero secret (RFC 8031, 2)")
    assert not wrong


def mlkem_768(seed: bytes) -> Exchange:
    return MlKem768Exchange(mlkem.MLKEM768PrivateKey.from_seed_bytes(seed))


def mlkem_1024(seed: bytes) -> Exchange:
    return MlKem1024Exchange(mlkem.MLKEM1024PrivateKey.from_seed_bytes(seed))


ML_KEM = {"768": (mlkem_768, KeGroup.ML_KEM_768), "1024": (mlkem_1024, KeGroup.ML_KEM_1024)}


@pytest.mark.parametrize("size", ML_KEM)
def test_ml_kem_key_generation_and_decapsulation(size: str) -> None:
    make, _ = ML_KEM[size]
    wrong = []
    for name in (f"mlkem_{size}", f"mlkem_{size}_keygen_seed"):
        for _, case in cases(name):
            if len(field(case, "seed")) != 64:
                continue  # our own seed is never of another length
            exchange = make(field(case, "seed"))
            if case["result"] == "valid" and exchange.public != field(case, "ek"):
                wrong.append(f"{name} {show(case, exchange.public)}: another public key")
            if "c" in case:
                found = outcome(ProtocolError, finish, exchange, field(case, "c"))
                if not is_right(case, found, field(case, "K")):
                    wrong.append(f"{name} {show(case, found)}")
    assert not wrong


@pytest.mark.parametrize("size", ML_KEM)
def test_ml_kem_encapsulation_refuses_bad_keys(size: str) -> None:
    """The randomness of ours cannot be chosen: good keys are only shown to be taken."""
    _, group = ML_KEM[size]
    wrong = []
    for _, case in cases(f"mlkem_{size}_encaps"):
        found = outcome(ProtocolError, respond, group, field(case, "ek"))
        if (found is None) != (case["result"] == "invalid"):
            wrong.append(show(case, found))
    assert not wrong


# Ciphers and MACs

AEADS = [("aes_gcm", Encr.AES_GCM_16, 128), ("aes_gcm", Encr.AES_GCM_16, 192), ("aes_gcm", Encr.AES_GCM_16, 256)]
AEADS += [("chacha20_poly1305", Encr.CHACHA20_POLY1305, 256)]


def without_padding(text: bytes) -> bytes | None:
    """What the SK payload makes of a plaintext: its last byte is the pad length (RFC 7296, 3.14)."""
    return text[: -text[-1] - 1] if text and text[-1] < len(text) else None


@pytest.mark.parametrize(("name", "encryption", "bits"), AEADS)
def test_aead_of_the_sk_payload(name: str, encryption: Encr, bits: int) -> None:
    wrong = []
    for _, case in cases(name, ivSize=96, tagSize=128, keySize=bits):
        key, iv, aad, text = (field(case, part) for part in ("key", "iv", "aad", "msg"))
        sealed = field(case, "ct") + field(case, "tag")
        cipher = AeadSk(encryption, key + iv[:4], int.from_bytes(iv[4:], "big"))
        found = outcome((IntegrityError, MalformedMessageError), cipher.open, aad, iv[4:] + sealed)
        if not is_right(case, found, without_padding(text)):
            wrong.append(show(case, found))
        if case["result"] == "valid" and not cipher.seal(aad, text).startswith(iv[4:] + field(case, "ct")):
            wrong.append(f"{show(case, found)}: sealed otherwise")
    assert not wrong


@pytest.mark.parametrize(("name", "encryption", "bits"), AEADS)
@pytest.mark.parametrize("esn", [False, True])
def test_aead_of_esp(name: str, encryption: Encr, bits: int, esn: bool) -> None:
    """Those cases whose additional data have ESP's length: SPI and 4 or 8 bytes of sequence number."""
    wrong, used = [], 0
    for _, case in cases(name, ivSize=96, tagSize=128, keySize=bits):
        key, iv, aad, text = (field(case, part) for part in ("key", "iv", "aad", "msg"))
        if len(aad) != (12 if esn else 8):
            continue
        used += 1
        suite = EspSuite(encryption, None if encryption is Encr.CHACHA20_POLY1305 else bits, esn=esn)
        transform = build_transform(suite, EspKeys(key, iv[:4], b""), os.urandom)
        packet = aad[:4] + aad[-4:] + iv[4:] + field(case, "ct") + field(case, "tag")
        found = outcome(PacketDroppedError, transform.open, packet, int.from_bytes(aad[4:], "big"))
        if not is_right(case, found, text):
            wrong.append(show(case, found))
    if not used:
        pytest.skip("no case has additional data of this length")
    assert not wrong


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_cbc_of_esp(bits: int) -> None:
    """Decryption; ESP has its own padding, so the published one is just a part of the plaintext."""
    suite = EspSuite(Encr.AES_CBC, bits, Integ.HMAC_SHA2_256_128)
    wrong = []
    for _, case in cases("aes_cbc_pkcs5", keySize=bits):
        if case["result"] != "valid":
            continue  # wrong PKCS #5 padding
        text = field(case, "msg")
        pad = 16 - len(text) % 16
        transform = build_transform(suite, EspKeys(field(case, "key"), b"", bytes(32)), os.urandom)
        protected = bytes(8) + field(case, "iv") + field(case, "ct")
        packet = protected + prf(Prf.HMAC_SHA2_256, bytes(32), protected)[:16]
        found = transform.open(packet, 0)
        if found != text + bytes([pad]) * pad:
            wrong.append(show(case, found))
        with pytest.raises(PacketDroppedError) as caught:
            transform.open(packet[:-1] + bytes([packet[-1] ^ 1]), 0)
        assert caught.value.reason is DropReason.INTEGRITY
    assert not wrong


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hmac_sha256", Prf.HMAC_SHA2_256),
        ("hmac_sha384", Prf.HMAC_SHA2_384),
        ("hmac_sha512", Prf.HMAC_SHA2_512),
    ],
)
def test_hmac(name: str, kind: Prf) -> None:
    wrong = []
    for group, case in cases(name):
        found = prf(kind, field(case, "key"), field(case, "msg"))[: group["tagSize"] // 8]
        if (found == field(case, "tag")) != (case["result"] == "valid"):
            wrong.append(show(case, found))
    assert not wrong


# Signatures

SHA2 = {"sha256": SignatureHash.SHA2_256, "sha384": SignatureHash.SHA2_384, "sha512": SignatureHash.SHA2_512}
SCHEMES: dict[str, Scheme] = {
    **{
        f"ecdsa_secp{curve}_{digest}": Scheme(Kind.ECDSA, SHA2[digest])
        for curve, digests in (("256r1", ("sha256", "sha512")), ("384r1", SHA2), ("521r1", ("sha512",)))
        for digest in digests
    },
    "ed25519": Scheme(Kind.ED25519, SignatureHash.IDENTITY),
    **{
        f"rsa_pss_{kind}": Scheme(Kind.RSA_PSS, SHA2[kind.split("_")[1]])
        for kind in (
            *("2048_sha256_mgf1_32", "2048_sha384_mgf1_48", "3072_sha256_mgf1_32"),
            *("4096_sha256_mgf1_32", "4096_sha384_mgf1_48", "4096_sha512_mgf1_64"),
        )
    },
    **{
        f"rsa_signature_{bits}_{digest}": Scheme(Kind.RSA_PKCS1, number)
        for bits in (2048, 3072, 4096)
        for digest, number in SHA2.items()
    },
}
CLASSIC = {
    "ecdsa_secp256r1_sha256_p1363": AuthMethod.ECDSA_256,
    "ecdsa_secp384r1_sha384_p1363": AuthMethod.ECDSA_384,
    "ecdsa_secp521r1_sha512_p1363": AuthMethod.ECDSA_521,
}


def accepts(group: Case, method: AuthMethod, content: bytes, data: bytes) -> bool:
    key = cast(PublicKey, load_der_public_key(field(group, "publicKeyDer")))
    try:
        verify(key, method, content, data)
    except AuthenticationError:
        return False
    return True


@pytest.mark.parametrize("name", SCHEMES)
def test_signatures_of_rfc_7427(name: str) -> None:
    blob = identifier_of(SCHEMES[name])
    wrong = []
    for group, case in cases(name):
        content = bytes([len(blob)]) + blob + field(case, "sig")
        accepted = accepts(group, AuthMethod.DIGITAL_SIGNATURE, content, field(case, "msg"))
        if case["result"] != "acceptable" and accepted != (case["result"] == "valid"):
            wrong.append(show(case, accepted))
    assert not wrong


@pytest.mark.parametrize("name", CLASSIC)
def test_signatures_of_rfc_4754(name: str) -> None:
    wrong = []
    for group, case in cases(name):
        accepted = accepts(group, CLASSIC[name], field(case, "sig"), field(case, "msg"))
        if case["result"] != "acceptable" and accepted != (case["result"] == "valid"):
            wrong.append(show(case, accepted))
    assert not wrong
