"""The interoperability matrix with charon: 4 authentications x 3 ciphers x 5 groups x 2 roles = 120 cells.

In each cell: both sides' view of the algorithms, a CHILD_SA rekeyed with its own key exchange (perfect forward secrecy,
which IKE_AUTH cannot show), then three pings through TUN.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from warren_ikev2.aio import ClientBuilder, ServerBuilder, Session
from warren_testkit.lab.ike_bed import LIMIT_SECONDS, Bed, Sides, psk_sides

pytestmark = [pytest.mark.root, pytest.mark.interop]

AUTHENTICATIONS = {"psk": None, "ecdsa-p256": "ecdsa-p256", "rsa-pss-3072": "rsa-3072", "ed25519": "ed25519"}
SCHEMES = {"ecdsa-p256": "ECDSA_WITH_SHA", "rsa-pss-3072": "RSA_EMSA_PSS_SHA", "ed25519": "ED25519"}
"""How charon's log names the signature that it accepted."""


@dataclass(frozen=True)
class Cipher:
    """A family in IKE and in ESP, and what VICI's list-sas calls it."""

    ike: str
    esp: str
    vici_ike: dict[str, str]
    vici_esp: dict[str, str]


AES_GCM = {"encr-alg": "AES_GCM_16", "encr-keysize": "256"}
CHACHA = {"encr-alg": "CHACHA20_POLY1305"}
AES_CBC = {"encr-alg": "AES_CBC", "encr-keysize": "256", "integ-alg": "HMAC_SHA2_256_128"}
CIPHERS = {
    "aes256gcm16": Cipher("aes256gcm16-prfsha384", "aes256gcm16", AES_GCM | {"prf-alg": "PRF_HMAC_SHA2_384"}, AES_GCM),
    "chacha20poly1305": Cipher(
        "chacha20poly1305-prfsha256", "chacha20poly1305", CHACHA | {"prf-alg": "PRF_HMAC_SHA2_256"}, CHACHA
    ),
    "aes256-sha256": Cipher("aes256-sha256", "aes256-sha256", AES_CBC | {"prf-alg": "PRF_HMAC_SHA2_256"}, AES_CBC),
}
GROUPS = {
    "x25519": "CURVE_25519",
    "ecp256": "ECP_256",
    "ecp384": "ECP_384",
    "modp2048": "MODP_2048",
    "modp3072": "MODP_3072",
}
ROLES = ("initiator", "responder")


@dataclass(frozen=True)
class Cell:
    """One combination; `raw`: raw keys in place of certificates."""

    authentication: str
    cipher: str
    group: str
    role: str
    raw: bool = False

    def __str__(self) -> str:
        return "-".join((self.authentication + "-raw" * self.raw, self.cipher, self.group, self.role))

    @property
    def ike(self) -> str:
        return f"{CIPHERS[self.cipher].ike}-{self.group}"

    @property
    def esp(self) -> str:
        return f"{CIPHERS[self.cipher].esp}-{self.group}"


CELLS = [Cell(*parts) for parts in itertools.product(AUTHENTICATIONS, CIPHERS, GROUPS, ROLES)]
RAW = [Cell(kind, "aes256gcm16", "x25519", role, raw=True) for kind in SCHEMES for role in ROLES]


@pytest.mark.matrix
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell(bed: Bed, cell: Cell) -> None:
    run_cell(bed, cell, lambda: bed.ping(3))


@pytest.mark.parametrize("cell", RAW, ids=str)
def test_raw_keys(bed: Bed, cell: Cell) -> None:
    run_cell(bed, cell, lambda: bed.ping(3))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_iperf(bed: Bed, cipher: str, role: str) -> None:
    def transfer() -> None:
        assert "receiver" in bed.iperf()
        assert "receiver" in bed.iperf(reverse=True)

    run_cell(bed, Cell("psk", cipher, "x25519", role), transfer)


def run_cell(bed: Bed, cell: Cell, traffic: Callable[[], None]) -> None:
    """Bring the cell up, look at it from both sides, send traffic, take it down."""
    name = f"cell-{cell}"
    with (
        bed.connection(name, charon_sides(bed, cell), cell.ike, cell.esp),
        bed.up(our_side(bed, cell), name) as session,
    ):
        rekey_child(bed, cell, name, session)
        assert_negotiated(bed, cell, name, session)
        traffic()


def our_side(bed: Bed, cell: Cell) -> ClientBuilder | ServerBuilder:
    builder = bed.builder(cell.role, cell.ike, cell.esp)
    kind = AUTHENTICATIONS[cell.authentication]
    if kind is None:
        return builder
    credentials = bed.credentials[kind]
    if cell.raw:
        return builder.with_raw_key(credentials.our_key).with_peer_keys(credentials.peer_key.public_key())
    certificate = credentials.authority.issue(bed.our_id, credentials.our_key)
    builder.with_certificate([certificate], credentials.our_key)
    return builder.with_authorities(credentials.authority.certificate)


def charon_sides(bed: Bed, cell: Cell) -> Sides:
    kind = AUTHENTICATIONS[cell.authentication]
    if kind is None:
        return psk_sides()
    return bed.credentials[kind].raw_sides() if cell.raw else bed.credentials[kind].pubkey_sides()


def rekey_child(bed: Bed, cell: Cell, name: str, session: Session) -> None:
    """The initiator rekeys; both sides then hold the new CHILD_SA."""
    (old,) = session.children.values()
    if cell.role == "initiator":
        bed.loop.run(session.rekey_child(old.spi_in), LIMIT_SECONDS)
    else:
        bed.vici.rekey(ike=name, child="net")
    bed.wait_for_replacement(session, old.spi_in)


def assert_negotiated(bed: Bed, cell: Cell, name: str, session: Session) -> None:
    cipher = CIPHERS[cell.cipher]
    (child,) = session.children.values()
    assert str(session.info.suite) == cell.ike.replace("aes256-sha256-", "aes256-sha256-prfsha256-")
    assert str(child.suite) == cell.esp
    (sa,) = bed.vici.sas(name)
    assert {key: sa.get(key) for key in cipher.vici_ike} == cipher.vici_ike
    assert (sa["state"], sa["dh-group"]) == ("ESTABLISHED", GROUPS[cell.group])
    assert (sa["local-id"], sa["remote-id"]) == (bed.peer_id, bed.our_id)
    (installed,) = bed.vici.children(name)
    assert {key: installed.get(key) for key in cipher.vici_esp} == cipher.vici_esp
    assert installed["dh-group"] == GROUPS[cell.group]
    assert int(installed["spi-out"], 16) == child.spi_in
    assert int(installed["spi-in"], 16) == child.spi_out
    scheme = SCHEMES.get(cell.authentication)
    if scheme is not None:
        lines = [line for line in bed.charon_log().splitlines() if f"authentication of '{bed.our_id}'" in line]
        assert scheme in lines[-1], lines[-1]
