"""Published vectors of PRFs and keys (RFC 4231, 5869), SK payload (RFC 7634), MSCHAPv2 (RFC 2759, 3079, 1320; FIPS 46-3)."""

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from warren_ikev2.auth.mschapv2 import (
    authenticator_response,
    challenge_hash,
    master_session_key,
    nt_response,
    password_hash,
)
from warren_ikev2.constants import Encr, Integ, KeGroup, Prf
from warren_ikev2.crypto.keys import (
    Nonces,
    additional_seed,
    derive_child_keys,
    derive_ike_keys,
    initial_seed,
    mix_ppk,
    rekey_seed,
)
from warren_ikev2.crypto.legacy import des_encrypt, md4
from warren_ikev2.crypto.prf import key_size, prf, prf_plus
from warren_ikev2.crypto.sk import AeadSk, sk_cipher
from warren_ikev2.errors import IntegrityError, MalformedMessageError
from warren_ikev2.suites import EspSuite, IkeSuite
from warren_testkit.ikev2.pair import counting_bytes

# PRF and keys

RFC_4231_2 = {  # key "Jefe"
    Prf.HMAC_SHA2_256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    Prf.HMAC_SHA2_384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
    "8e2240ca5e69e2c78b3239ecfab21649",
    Prf.HMAC_SHA2_512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
}


DIGESTS = {Prf.HMAC_SHA2_256: "sha256", Prf.HMAC_SHA2_384: "sha384", Prf.HMAC_SHA2_512: "sha512"}


@pytest.mark.parametrize("kind", Prf)
def test_prf(kind: Prf) -> None:
    assert prf(kind, b"Jefe", b"what do ya want for nothing?") == bytes.fromhex(RFC_4231_2[kind])


def by_definition(kind: Prf, key: bytes, seed: bytes, size: int) -> bytes:
    """RFC 7296, 2.13: T1 = prf(K, S | 1), T2 = prf(K, T1 | S | 2), ..."""
    out = block = b""
    index = 1
    while len(out) < size:
        block = hmac.new(key, block + seed + bytes([index]), DIGESTS[kind]).digest()
        out, index = out + block, index + 1
    return out[:size]


@pytest.mark.parametrize("kind", Prf)
@pytest.mark.parametrize("size", [1, 32, 100, 400])
def test_prf_plus(kind: Prf, size: int) -> None:
    assert prf_plus(kind, b"key", b"seed", size) == by_definition(kind, b"key", b"seed", size)


def test_prf_plus_is_hkdf_expand() -> None:
    """RFC 5869, A.1."""
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert prf_plus(Prf.HMAC_SHA2_256, prk, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), 42) == bytes.fromhex(okm)


def test_the_key_schedule_follows_its_definition() -> None:
    suite = IkeSuite(Encr.AES_CBC, 256, Prf.HMAC_SHA2_256, KeGroup.X25519, Integ.HMAC_SHA2_256_128)
    nonces = Nonces(b"i" * 32, b"r" * 20)
    seed = hmac.new(nonces.joined, b"shared", "sha256").digest()
    assert initial_seed(suite.prf, nonces, b"shared") == seed
    keys = derive_ike_keys(suite, seed, nonces, b"spi_i..8", b"spi_r..8")
    stream = by_definition(suite.prf, seed, nonces.joined + b"spi_i..8spi_r..8", 7 * 32)
    assert b"".join((keys.d, keys.ai, keys.ar, keys.ei, keys.er, keys.pi, keys.pr)) == stream
    own, peer = derive_child_keys(suite.prf, keys.d, EspSuite(Encr.AES_GCM_16, 128), nonces, (b"one", b"two"))
    stream = by_definition(suite.prf, keys.d, b"one" + nonces.joined + b"two", 40)
    assert own.encryption + own.salt + peer.encryption + peer.salt == stream
    mixed = mix_ppk(suite.prf, keys, b"ppk")
    assert mixed.d == by_definition(suite.prf, b"ppk", keys.d, key_size(suite.prf))
    assert (mixed.ei, mixed.ai) == (keys.ei, keys.ai)


@pytest.mark.parametrize("kind", Prf)
def test_seeds_of_later_exchanges_follow_their_definition(kind: Prf) -> None:
    """RFC 7296, 2.18: prf(SK_d (old), g^ir (new) | Ni | Nr); RFC 9370, 2.2.4 and 2.2.2."""
    nonces, old = Nonces(b"i" * 256, b"r" * 16), b"d" * key_size(kind)
    digest = DIGESTS[kind]
    assert rekey_seed(kind, old, nonces, (b"new",)) == hmac.digest(old, b"new" + nonces.joined, digest)
    several = (b"new", b"one", b"two")
    assert rekey_seed(kind, old, nonces, several) == hmac.digest(old, b"new" + nonces.joined + b"onetwo", digest)
    assert additional_seed(kind, old, nonces, b"next") == hmac.digest(old, b"next" + nonces.joined, digest)


# The encrypted payload

SUITES = [
    IkeSuite(Encr.AES_GCM_16, 128, Prf.HMAC_SHA2_256, KeGroup.X25519),
    IkeSuite(Encr.AES_GCM_16, 256, Prf.HMAC_SHA2_384, KeGroup.X25519),
    IkeSuite(Encr.CHACHA20_POLY1305, None, Prf.HMAC_SHA2_256, KeGroup.X25519),
    *(
        IkeSuite(Encr.AES_CBC, bits, Prf.HMAC_SHA2_256, KeGroup.X25519, kind)
        for bits in (128, 192, 256)
        for kind in list(Integ)[1:]
    ),
]


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_sealing_and_opening(suite: IkeSuite) -> None:
    random = counting_bytes("sk")
    keys = derive_ike_keys(suite, b"seed" * 8, Nonces(b"i", b"r"), b"1" * 8, b"2" * 8)
    cipher = sk_cipher(suite, keys.ei, keys.ai, random)
    for size in (0, 1, 15, 16, 17, 1000):
        body = cipher.seal(b"header", bytes(size))
        assert len(body) == cipher.sealed_size(size)
        assert cipher.open(b"header", body) == bytes(size)
        with pytest.raises(IntegrityError):
            cipher.open(b"Header", body)
        for position in (0, len(body) // 2, len(body) - 1):
            damaged = bytearray(body)
            damaged[position] ^= 0x80
            with pytest.raises(IntegrityError):
                cipher.open(b"header", bytes(damaged))
    for cut in range(cipher.sealed_size(7)):
        with pytest.raises(IntegrityError):
            cipher.open(b"header", cipher.seal(b"header", b"payload")[:cut])
    assert len({cipher.seal(b"", b"same")[:8] for _ in range(100)}) == 100


def test_rfc7634_appendix_b() -> None:
    """The body of an INFORMATIONAL request with a DELETE, with ChaCha20-Poly1305."""
    key = bytes.fromhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3")
    aad = bytes.fromhex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029")
    plain = bytes.fromhex("0000000c000040010000000a")
    body = bytes.fromhex("1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2")
    cipher = AeadSk(Encr.CHACHA20_POLY1305, key, first_iv=int.from_bytes(body[:8], "big"))
    assert cipher.seal(aad, plain) == body
    assert cipher.open(aad, body) == plain


def test_more_padding_than_data_is_malformed() -> None:
    suite = SUITES[0]
    keys = derive_ike_keys(suite, b"seed" * 8, Nonces(b"i", b"r"), b"1" * 8, b"2" * 8)
    iv = bytes(8)
    body = iv + AESGCM(keys.ei[:-4]).encrypt(keys.ei[-4:] + iv, b"abc\x09", b"aad")
    with pytest.raises(MalformedMessageError):
        sk_cipher(suite, keys.ei, keys.ai, counting_bytes("x")).open(b"aad", body)


# MSCHAPv2

SERVER = bytes.fromhex("5B5D7C7D7B3F2F3E3C2C602132262628")


PEER = bytes.fromhex("21402324255E262A28295F2B3A337C7E")


def test_mschapv2() -> None:
    """RFC 2759, 9.2, and RFC 3079, 3.5.3."""
    nt_hash = password_hash("clientPass")
    response = nt_response(SERVER, PEER, "User", nt_hash)
    assert challenge_hash(PEER, SERVER, "User") == bytes.fromhex("D02E4386BCE91226")
    assert response == bytes.fromhex("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF")
    assert (
        authenticator_response(nt_hash, response, PEER, SERVER, "User") == "S=407A5589115FD0D6209F510FE9C04566932CDA56"
    )
    key = master_session_key(nt_hash, response)
    assert len(key) == 64
    assert key[16:32] == bytes.fromhex("8B7CDC149B993A1BA118CB153F56DCCB")  # the server sends with it
    assert key[32:] == bytes(32)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ("a", "bde52cb31de33e46245e05fbdbd6fb24"),
        ("message digest", "d9130a8164549fe818874806e1c7014b"),
        ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4(text: str, digest: str) -> None:
    """RFC 1320, A.5."""
    assert md4(text.encode()) == bytes.fromhex(digest)


def test_des() -> None:
    """The key 133457799BBCDFF1 without its parity bits."""
    assert des_encrypt(bytes.fromhex("12695BC9B7B7F8"), bytes.fromhex("0123456789ABCDEF")) == bytes.fromhex(
        "85E813540F0AB405"
    )
