"""EAP with charon: GTC and MSCHAPv2 in both roles, and a post-quantum pre-shared key next to each."""

from typing import Any

import pytest

from warren_ikev2.aio import ClientBuilder
from warren_ikev2.credentials import EapGtcAuth, EapMschapv2Auth, EapTrust, RawKeyAuth, RawKeyTrust
from warren_ikev2.errors import AuthenticationError
from warren_testkit.ikev2.logins import TableVerifier
from warren_testkit.lab.ike_bed import Bed

pytestmark = [pytest.mark.root, pytest.mark.interop]


PPK = (b"ppk-id", b"a long quantum-safe key of the lab")


@pytest.fixture(autouse=True)
def secrets(gtc_bed: Bed) -> None:
    """The secrets of charon: carol's password and the post-quantum key."""
    gtc_bed.vici.load_shared("eap", "EAP", b"the password", "carol")
    gtc_bed.vici.load_shared("ppk", "PPK", PPK[1], PPK[0].decode())


def ppk_options(ppk: bool) -> dict[str, str]:
    """Return the options of charon that require the key."""
    return {"ppk_id": PPK[0].decode(), "ppk_required": "yes"} if ppk else {}


@pytest.mark.parametrize("ppk", [False, True])
@pytest.mark.parametrize("method", [EapGtcAuth, EapMschapv2Auth])
def test_our_client_authenticates_to_charon_by_password(gtc_bed: Bed, method: Any, ppk: bool) -> None:
    """charon authenticates by its key first, then requests the password, which it verifies for GTC by xauth-generic."""
    bed, kind = gtc_bed, "eap-gtc" if method is EapGtcAuth else "eap-mschapv2"
    credentials = bed.credentials["ed25519"]
    local, _ = credentials.raw_sides()
    remote = {"auth": kind, "eap_id": "%any", "id": bed.our_id}
    trust = RawKeyTrust((credentials.peer_key.public_key(),))

    def client(password: str) -> ClientBuilder:
        builder = bed.client().with_auth(method("carol", password), trust)
        return builder.with_ppk(*PPK) if ppk else builder

    with bed.connection(f"{kind}-{ppk}", (local, remote), **ppk_options(ppk)) as name:
        with bed.connected(client("the password")) as own:
            bed.ping()
            assert own.session.info.ppk_id == (PPK[0] if ppk else None)
            assert ("ppk" in bed.vici.sas(name)[0]) is ppk
        with pytest.raises(AuthenticationError):
            bed.loop.run(client("a wrong one").build().connect(bed.peers))


@pytest.mark.parametrize("ppk", [False, True])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("method", ["eap-gtc", "eap-mschapv2"])
def test_charon_authenticates_to_our_server_by_password(gtc_bed: Bed, method: str, right: bool, ppk: bool) -> None:
    """charon announces EAP_ONLY_AUTHENTICATION, and we authenticate by AUTH all the same. For MSCHAPv2 it declines our GTC."""
    bed = gtc_bed
    credentials = bed.credentials["ed25519"]
    _, remote = credentials.raw_sides()
    local = {"auth": method, "id": bed.peer_id, "eap_id": "carol"}
    expected = "the password" if right else "another"
    verifier = TableVerifier({"carol": expected}, {"carol"})
    builder = bed.server().with_auth(RawKeyAuth(credentials.our_key), EapTrust(mschapv2=True)).with_logins(verifier)
    builder = builder.with_ppk(*PPK) if ppk else builder
    with bed.connection(f"{method}-r-{right}-{ppk}", (local, remote), **ppk_options(ppk)) as name:
        if right:
            with bed.accepted(builder, name) as session:
                bed.ping()
                assert (session.info.eap_identity, session.info.remote_auth) == ("carol", method)
                assert session.info.ppk_id == (PPK[0] if ppk else None)
        else:
            assert bed.refusals_of_charon(builder, name) == 1
