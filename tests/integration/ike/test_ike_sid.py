"""ML-KEM with the strongSwan of Debian sid (6.1 and later): RFC 9370 over IKE_INTERMEDIATE and IKE_FOLLOWUP_KE.

Part of `make test-all`, which installs that strongSwan into build/sid; skipped, with the reason, where it is unavailable.
"""

import pytest

from warren_testkit.lab.ike_bed import LIMIT_SECONDS, Bed, psk_sides

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.sid]

GROUPS = ("x25519-ke1_mlkem768", "x25519-ke1_mlkem1024", "x25519-ke1_mlkem768-ke2_x448")
CHARONS_NAMES = {"mlkem768": "ML_KEM_768", "mlkem1024": "ML_KEM_1024", "x448": "CURVE_448"}


@pytest.fixture(scope="module")
def version(sid_bed: Bed) -> str:
    with sid_bed.vici.session() as session:
        found = session.version()["version"].decode()
    print(f"strongSwan {found}")
    if tuple(int(part) for part in found.split(".")[:2]) < (6, 1):
        pytest.skip(f"strongSwan {found} of Debian sid is older than 6.1, which knows ML-KEM in proposals")
    return str(found)


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("kind", ["psk", "ed25519"])
@pytest.mark.parametrize("group", GROUPS)
def test_additional_key_exchanges(sid_bed: Bed, version: str, group: str, kind: str, role: str) -> None:
    """In the handshake, then in rekeys of the CHILD_SA and the IKE_SA; traffic passes at the end."""
    bed, name = sid_bed, f"sid-{group}-{kind}-{role}"
    ike, esp = f"aes256gcm16-prfsha384-{group}", f"aes256gcm16-{group}"
    sides = psk_sides() if kind == "psk" else bed.credentials[kind].raw_sides()
    own = bed.builder(role, ike, esp)
    if kind != "psk":
        credentials = bed.credentials[kind]
        own.with_raw_key(credentials.our_key).with_peer_keys(credentials.peer_key.public_key())
    with bed.connection(name, sides, ike, esp), bed.up(own, name) as session:
        (old,) = session.children.values()
        bed.loop.run(session.rekey_child(old.spi_in), LIMIT_SECONDS)
        bed.wait_for_replacement(session, old.spi_in)
        bed.loop.run(session.rekey(), LIMIT_SECONDS)
        spi_in = next(iter(session.children))
        bed.vici.rekey(ike=name, child="net")
        child = bed.wait_for_replacement(session, spi_in)
        assert str(session.info.suite) == ike
        assert str(child.suite) == esp
        assert_charon_agrees(bed, name, group)
        bed.ping(3)


def assert_charon_agrees(bed: Bed, name: str, group: str) -> None:
    """charon's own list of the one IKE_SA and its one CHILD_SA names the same algorithms."""
    (sa,) = bed.vici.sas(name)
    (child,) = bed.vici.children(name)
    additional = [part.partition("_")[2] for part in group.split("-")[1:]]
    expected = {"encr-alg": "AES_GCM_16", "encr-keysize": "256", "dh-group": "CURVE_25519"}
    expected |= {f"ake{number}": CHARONS_NAMES[word] for number, word in enumerate(additional, start=1)}
    for found in (sa, child):
        assert {key: found.get(key) for key in expected} == expected, found
    assert sa["prf-alg"] == "PRF_HMAC_SHA2_384"
