"""Key exchange: the vectors of RFC 5903, 7027, 7748 and 3526, and the public keys that are refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from warren_ikev2.constants import KeGroup
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.groups import EcpExchange
from warren_ikev2.crypto.modp import modulus_size, prime
from warren_ikev2.errors import ProtocolError

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
    assert exchange.public == bytes.fromhex(public)
    assert exchange.shared(bytes.fromhex(peer)) == bytes.fromhex(secret)


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
        bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    peer = x25519.X25519PublicKey.from_public_bytes(
        bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    )
    assert own.exchange(peer) == bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


@pytest.mark.parametrize("group", [KeGroup.MODP_2048, KeGroup.MODP_3072, KeGroup.MODP_4096])
def test_modp_primes_are_safe_primes(group: KeGroup) -> None:
    p = prime(group)
    assert p.bit_length() == 8 * modulus_size(group)
    assert pow(2, p - 1, p) == 1  # a wrong digit makes a composite number, which does not pass
    assert pow(2, (p - 1) // 2 - 1, (p - 1) // 2) == 1
    assert p.to_bytes(modulus_size(group), "big")[8:24] == bytes.fromhex("C90FDAA22168C234C4C6628B80DC1CD1")
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
        groups.respond(KeGroup.X25519, bytes.fromhex(point))


def test_x448_low_order_points_are_refused() -> None:
    for point in (bytes(56), b"\x01" + bytes(55)):
        with pytest.raises(ProtocolError):
            groups.respond(KeGroup.X448, point)
