"""EAP with charon: GTC in both roles, MSCHAPv2 as client, and a post-quantum pre-shared key beside each."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from warren_ikev2.aio import Client, Server
from warren_ikev2.credentials import EapGtcAuth, EapGtcTrust, EapMschapv2Auth, RawKeyAuth, RawKeyTrust
from warren_ikev2.errors import AuthenticationError

pytestmark = [pytest.mark.root, pytest.mark.interop]

IKE, ESP = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"
LIMIT_SECONDS = 15.0
PPK = (b"ppk-id", b"a long quantum-safe key of the lab")


def told(bed: Any, builder: Any) -> Any:
    builder.with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_proposals([IKE], [ESP])
    return builder.with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])


@contextlib.contextmanager
def charon(bed: Any, name: str, local: dict[str, Any], remote: dict[str, Any], **more: Any) -> Iterator[str]:
    with bed.vici.session() as session:
        session.load_shared({"id": "eap", "type": "EAP", "data": b"the password", "owners": ["carol"]})
        session.load_shared({"id": "ppk", "type": "PPK", "data": PPK[1], "owners": [PPK[0].decode()]})
    bed.vici.load(name, bed.charon_connection(IKE, ESP, local, remote, **more))
    try:
        yield name
    finally:
        bed.vici.terminate(name)
        bed.vici.unload(name)


@pytest.mark.parametrize("ppk", [False, True])
@pytest.mark.parametrize("method", [EapGtcAuth, EapMschapv2Auth])
def test_our_client_gives_charon_a_password(gtc_bed: Any, method: Any, ppk: bool) -> None:
    """charon proves itself by its key first, then asks; for GTC it looks the password up by xauth-generic."""
    bed, kind = gtc_bed, "eap-gtc" if method is EapGtcAuth else "eap-mschapv2"
    credentials = bed.credentials["ed25519"]
    local, _ = bed.raw_sides(credentials)
    remote = {"auth": kind, "eap_id": "%any", "id": bed.our_id}
    trust = RawKeyTrust((credentials.peer_key.public_key(),))
    more = {"ppk_id": PPK[0].decode(), "ppk_required": "yes"} if ppk else {}
    with charon(bed, f"{kind}-{ppk}", local, remote, **more) as name:
        for password, right in (("the password", True), ("a wrong one", False)):
            builder = told(bed, Client.builder()).with_auth(method("carol", password), trust)
            own = (builder.with_ppk(*PPK) if ppk else builder).build()
            if not right:
                with pytest.raises(AuthenticationError):
                    bed.loop.run(own.connect(bed.peers))
                continue
            try:
                session = bed.loop.run(own.connect(bed.peers, timeout=LIMIT_SECONDS))
                bed.attach(session)
                bed.ping()
                assert session.info.ppk_id == (PPK[0] if ppk else None)
                assert ("ppk" in bed.vici.sas(name)[0]) is ppk
            finally:
                bed.detach()
                bed.loop.run(own.shutdown())


@pytest.mark.parametrize("ppk", [False, True])
@pytest.mark.parametrize("right", [True, False])
def test_charon_gives_our_server_a_password_by_gtc(gtc_bed: Any, right: bool, ppk: bool) -> None:
    """charon announces EAP_ONLY_AUTHENTICATION, and gets our proof all the same."""
    bed = gtc_bed
    credentials = bed.credentials["ed25519"]
    _, remote = bed.raw_sides(credentials)
    local = {"auth": "eap-gtc", "id": bed.peer_id, "eap_id": "carol"}
    wanted = "the password" if right else "another"
    trust = EapGtcTrust(lambda user, password: (user, password) == ("carol", wanted))
    builder = told(bed, Server.builder()).with_auth(RawKeyAuth(credentials.our_key), trust)
    builder = builder.with_ppk(*PPK) if ppk else builder
    more = {"ppk_id": PPK[0].decode(), "ppk_required": "yes"} if ppk else {}
    own = bed.loop.run(builder.bind(bed.ours_address))
    try:
        with charon(bed, f"gtc-r-{right}-{ppk}", local, remote, **more) as name:
            if not right:
                with pytest.raises(Exception, match=r"establishing CHILD_SA|AUTHENTICATION"):
                    bed.vici.initiate(name)
                assert own.metrics.ike_handshake_failures == 1
                assert own.sessions == ()
                return
            bed.vici.initiate(name)
            session = bed.loop.run(own.accept(), LIMIT_SECONDS)
            bed.attach(session)
            bed.ping()
            assert (session.info.eap_identity, session.info.remote_auth) == ("carol", "eap-gtc")
            assert session.info.ppk_id == (PPK[0] if ppk else None)
    finally:
        bed.detach()
        bed.loop.run(own.close())
