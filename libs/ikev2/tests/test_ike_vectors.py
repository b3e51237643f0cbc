"""Published vectors: RFC 5903, 7748, 3526, 4231, 5869, 7427, 7634, 2759, 3079, 1320; FIPS 46-3."""

import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from warren_ikev2.auth.mschapv2 import authenticator_response, challenge_hash, master_session_key, nt_response
from warren_ikev2.constants import AuthMethod, Encr, Integ, KeGroup, Prf
from warren_ikev2.credentials import PrivateKey
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.groups import EcpExchange
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
from warren_ikev2.crypto.modp import modulus_size, prime
from warren_ikev2.crypto.prf import key_size, prf, prf_plus
from warren_ikev2.crypto.signatures import sign, verify
from warren_ikev2.crypto.sk import AeadSk, sk_cipher
from warren_ikev2.errors import AuthenticationError, IntegrityError, MalformedMessageError, ProtocolError
from warren_ikev2.suites import EspSuite, IkeSuite
from warren_ikev2.testing import counting_bytes
from warren_ikev2.testing_keys import make_key


def hx(text: str) -> bytes:
    return bytes.fromhex(text)


# Key exchange

RFC_5903 = {
    "256": (
        ec.SECP256R1(),
        "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
        "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180"
        "5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3",
        "D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63"
        "56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB",
        "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
    ),
    "384": (
        ec.SECP384R1(),
        "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
        "667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA"
        "9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C",
        "E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571"
        "DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C",
        "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
    ),
    "521": (
        ec.SECP521R1(),
        "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A0"
        "95AA85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D4A52",
        "0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBE"
        "E1E3BF42E00B8E380AEAE57C2D107564941885942AF5A7F4601723C4195D176CED3E"
        "017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10A"
        "D8A788015AC405D7799DC75E7B7D5B6CF2261A6A7F1507438BF01BEB6CA3926F9582",
        "00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A21"
        "9B97C356436ADC6E95BB0352F6BE64A6C2912D4EF2D0433CED2B6171640012D9460F"
        "015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87"
        "220B6536C5C408A1D2AEBB8E86D678AE49CB57091F4732296579AB44FCD17F0FC56A",
        "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04"
        "D1427E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3DDEA",
    ),
}


@pytest.mark.parametrize("name", RFC_5903)
def test_ecp_group(name: str) -> None:
    curve, private, public, peer, secret = RFC_5903[name]
    exchange = EcpExchange(curve, int(private, 16))
    assert exchange.public == hx(public)
    assert exchange.shared(hx(peer)) == hx(secret)


def test_brainpool_p256r1() -> None:
    """RFC 7027, A.1; the groups are those of RFC 6954."""
    own = EcpExchange(ec.BrainpoolP256R1(), 0x81DB1EE100150FF2EA338D708271BE38300CB54241D79950F77B063039804F1D)
    peer = EcpExchange(ec.BrainpoolP256R1(), 0x55E40BC41E37E3E2AD25C3C6654511FFA8474A91A0032087593852D3E7D76BD3)
    x, y = own.public[:32].hex(), own.public[32:].hex()
    assert x == "44106e913f92bc02a1705d9953a8414db95e1aaa49e81d9e85f929a8e3100be5"
    assert y == "8ab4846f11caccb73ce49cbdd120f5a900a69fd32c272223f789ef10eb089bdc"
    secret = "89afc39d41d3b327814b80940b042590f96556ec91e6ae7939bce31f3a18bf2b"
    assert own.shared(peer.public).hex() == peer.shared(own.public).hex() == secret


def test_x25519() -> None:
    """RFC 7748, 6.1."""
    own = x25519.X25519PrivateKey.from_private_bytes(
        hx("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    peer = x25519.X25519PublicKey.from_public_bytes(
        hx("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    )
    assert own.exchange(peer) == hx("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


@pytest.mark.parametrize("group", [KeGroup.MODP_2048, KeGroup.MODP_3072, KeGroup.MODP_4096])
def test_modp_primes_are_safe_primes(group: KeGroup) -> None:
    p = prime(group)
    assert p.bit_length() == 8 * modulus_size(group)
    for base in (2, 3, 5):
        assert pow(base, p - 1, p) == 1
        assert pow(base, (p - 1) // 2 - 1, (p - 1) // 2) == 1
    assert p.to_bytes(modulus_size(group), "big")[8:24] == hx("C90FDAA22168C234C4C6628B80DC1CD1")
    assert p & (2**64 - 1) == 2**64 - 1


ALL_GROUPS = [group for group in KeGroup if group]
SIZES = {KeGroup.X25519: 32, KeGroup.X448: 56, KeGroup.ECP_256: 64, KeGroup.ECP_384: 96, KeGroup.ECP_521: 132}
SIZES |= {KeGroup.MODP_2048: 256, KeGroup.MODP_3072: 384, KeGroup.MODP_4096: 512}
SIZES |= {KeGroup.ML_KEM_768: 1184, KeGroup.ML_KEM_1024: 1568}
SIZES |= {KeGroup.BRAINPOOL_P256R1: 64, KeGroup.BRAINPOOL_P384R1: 96, KeGroup.BRAINPOOL_P512R1: 128}


@pytest.mark.parametrize("group", ALL_GROUPS, ids=lambda group: group.name)
def test_both_sides_of_a_key_exchange_agree(group: KeGroup) -> None:
    exchange = groups.start(group)
    assert len(exchange.public) == SIZES[group]
    answer, secret = groups.respond(group, exchange.public)
    assert groups.finish(exchange, answer) == secret


@pytest.mark.parametrize("group", ALL_GROUPS, ids=lambda group: group.name)
def test_unusable_public_keys_are_one_typed_error(group: KeGroup) -> None:
    """Degenerate, off the curve, of a wrong length (RFC 6989; RFC 7748, 6; FIPS 203, 7)."""
    size = SIZES[group]
    bad = [b"", b"\0", bytes(size - 1), bytes(size + 1), b"\xff" * size]
    if group not in (KeGroup.ML_KEM_768, KeGroup.ML_KEM_1024):
        bad.append(bytes(size))
    if group in (KeGroup.MODP_2048, KeGroup.MODP_3072, KeGroup.MODP_4096):
        p = prime(group)
        bad += [value.to_bytes(size, "big") for value in (0, 1, p - 1, p)]
    for key in bad:
        if group in (KeGroup.X25519, KeGroup.X448) and key == b"\xff" * size:
            continue  # not canonical, but usable (RFC 7748, 5)
        with pytest.raises(ProtocolError):
            groups.respond(group, key)


LOW_ORDER_X25519 = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", LOW_ORDER_X25519)
def test_low_order_points_are_refused(point: str) -> None:
    with pytest.raises(ProtocolError):
        groups.respond(KeGroup.X25519, hx(point))


def test_x448_low_order_points_are_refused() -> None:
    for point in (bytes(56), b"\x01" + bytes(55)):
        with pytest.raises(ProtocolError):
            groups.respond(KeGroup.X448, point)


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
    assert prf(kind, b"Jefe", b"what do ya want for nothing?") == hx(RFC_4231_2[kind])


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
    prk = hx("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert prf_plus(Prf.HMAC_SHA2_256, prk, hx("f0f1f2f3f4f5f6f7f8f9"), 42) == hx(okm)


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
    key = hx("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3")
    aad = hx("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029")
    plain = hx("0000000c000040010000000a")
    body = hx("1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2")
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


# Signatures

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
    identifier = hx(RFC_7427[kind, number])
    assert method == AuthMethod.DIGITAL_SIGNATURE
    assert content[: 1 + len(identifier)] == bytes([len(identifier)]) + identifier
    verify(key.public_key(), method, content, b"octets")
    for damaged in (
        content[:-1],
        content[:-1] + b"\0",
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
    sha1_with_rsa = hx("300d06092a864886f70d0101050500")
    content = bytes([len(sha1_with_rsa)]) + sha1_with_rsa + bytes(256)
    for method, data in ((AuthMethod.DIGITAL_SIGNATURE, content), (AuthMethod.RSA_SIGNATURE, bytes(256))):
        with pytest.raises(AuthenticationError):
            verify(signers["rsa-2048"].public_key(), method, data, b"octets")


# MSCHAPv2

SERVER = hx("5B5D7C7D7B3F2F3E3C2C602132262628")
PEER = hx("21402324255E262A28295F2B3A337C7E")


def test_mschapv2() -> None:
    """RFC 2759, 9.2, and RFC 3079, 3.5.3."""
    response = nt_response(SERVER, PEER, "User", "clientPass")
    assert challenge_hash(PEER, SERVER, "User") == hx("D02E4386BCE91226")
    assert response == hx("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF")
    assert (
        authenticator_response("clientPass", response, PEER, SERVER, "User")
        == "S=407A5589115FD0D6209F510FE9C04566932CDA56"
    )
    key = master_session_key("clientPass", response)
    assert len(key) == 64
    assert key[16:32] == hx("8B7CDC149B993A1BA118CB153F56DCCB")  # the server sends with it
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
    assert md4(text.encode()) == hx(digest)


def test_des() -> None:
    """The key 133457799BBCDFF1 without its parity bits."""
    assert des_encrypt(hx("12695BC9B7B7F8"), hx("0123456789ABCDEF")) == hx("85E813540F0AB405")
