"""With charon: authentication of both sides, and refused handshakes."""

import pytest

from warren_ikev2.credentials import EapMschapv2Auth, RawKeyTrust
from warren_ikev2.errors import AuthenticationError, NoProposalChosenError, TsUnacceptableError
from warren_testkit.ikev2.keys import Authority, certificate_pem, make_key, private_pem
from warren_testkit.ikev2.proposals import names
from warren_testkit.lab.ike_bed import Bed

pytestmark = [pytest.mark.root, pytest.mark.interop]


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_certificate_chains(bed: Bed, role: str) -> None:
    """Each side has the root only; the intermediates are sent in CERT payloads."""
    root = Authority.make("Chain Root")
    ours, peers = root.subordinate("Our Intermediate"), root.subordinate("Peer Intermediate")
    our_key, peer_key = make_key("ecdsa-p256"), make_key("ecdsa-p256")
    with bed.vici.session() as session:
        session.load_key({"type": "any", "data": private_pem(peer_key).decode()})
        session.load_cert({"type": "X509", "flag": "CA", "data": certificate_pem(peers.certificate).decode()})
    pem = certificate_pem(peers.issue(bed.peer_id, peer_key)).decode()
    local = {"auth": "pubkey", "id": bed.peer_id, "certs": [pem]}
    remote = {"auth": "pubkey", "id": bed.our_id, "cacerts": [certificate_pem(root.certificate).decode()]}
    own = bed.builder(role)
    own.with_certificate([ours.issue(bed.our_id, our_key), ours.certificate], our_key).with_authorities(
        root.certificate
    )
    with bed.connection(f"chain-{role}", (local, remote)) as name, bed.up(own, name):
        bed.ping()


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_post_quantum_pre_shared_key(bed: Bed, role: str) -> None:
    bed.vici.load_shared("ppk", "PPK", b"a long quantum-safe key of the lab", "ppk-id")
    own = bed.builder(role)
    own.with_ppk(b"ppk-id", b"a long quantum-safe key of the lab")
    with bed.connection(f"ppk-{role}", ppk_id="ppk-id", ppk_required="yes") as name, bed.up(own, name):
        bed.ping()
        assert bed.vici.sas(name)[0]["ppk"] == "yes"


def test_eap_mschapv2_as_client(bed: Bed) -> None:
    """charon authenticates by its key first, then requests the password."""
    credentials = bed.credentials["ed25519"]
    bed.vici.load_shared("eap", "EAP", b"the password", "carol")
    local, _ = credentials.raw_sides()
    remote = {"auth": "eap-mschapv2", "eap_id": "%any", "id": bed.our_id}
    trust = RawKeyTrust((credentials.peer_key.public_key(),))
    with bed.connection("eap", (local, remote)):
        with bed.connected(bed.client().with_auth(EapMschapv2Auth("carol", "the password"), trust)):
            bed.ping()
        refused = bed.client().with_auth(EapMschapv2Auth("carol", "a wrong one"), trust).build()
        with pytest.raises(AuthenticationError):
            bed.loop.run(refused.connect(bed.peers))


def test_charon_refuses_a_wrong_secret(bed: Bed) -> None:
    with bed.connection("wrong"), pytest.raises(AuthenticationError):
        bed.loop.run(bed.client().with_psk(b"wrong").build().connect(bed.peers))


def test_we_refuse_a_wrong_secret_of_charon(bed: Bed) -> None:
    with bed.connection("wrong-r") as name:
        assert bed.refusals_of_charon(bed.server().with_psk(b"wrong"), name) == 1


def test_a_certificate_of_an_unknown_authority_is_refused(bed: Bed) -> None:
    credentials = bed.credentials["ecdsa-p256"]
    other = Authority.make("Other Root")
    chain = [credentials.authority.issue(bed.our_id, credentials.our_key)]
    own = bed.client().with_certificate(chain, credentials.our_key).with_authorities(other.certificate).build()
    with bed.connection("other", credentials.pubkey_sides()), pytest.raises(AuthenticationError):
        bed.loop.run(own.connect(bed.peers))


def test_no_proposal_and_no_selectors(bed: Bed) -> None:
    with bed.connection("mismatch"):
        with pytest.raises(NoProposalChosenError):
            bed.loop.run(bed.client().with_proposals([names("aes128-sha256-modp2048")]).build().connect(bed.peers))
        with pytest.raises(TsUnacceptableError):
            bed.loop.run(bed.client().with_networks(remote=["10.99.0.0/16"]).build().connect(bed.peers))
