"""With charon: revoked certificates, and brainpool's curves as key exchange and in the probe."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from warren_cli.ike_probe import probe
from warren_cli.lab.namespace import in_netns
from warren_ikev2.aio import Client, Server
from warren_ikev2.credentials import CertificateAuth, CertificateTrust
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.testing_keys import certificate_pem

pytestmark = [pytest.mark.root, pytest.mark.interop]

IKE, ESP = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"
LIMIT_SECONDS = 15.0
BRAINPOOL = ("ecp256bp", "ecp384bp", "ecp512bp")


@contextlib.contextmanager
def charon(bed: Any, name: str, *arguments: Any) -> Iterator[str]:
    bed.vici.load(name, bed.charon_connection(*arguments))
    try:
        yield name
    finally:
        bed.vici.terminate(name)
        bed.vici.unload(name)


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_revoked_charon_is_refused_logged_and_counted(bed: Any, role: str, caplog: pytest.LogCaptureFixture) -> None:
    credentials = bed.credentials["ecdsa-p256"]
    authority = credentials.authority
    theirs = authority.issue(bed.peer_id, credentials.peer_key)
    local = {"auth": "pubkey", "id": bed.peer_id, "certs": [certificate_pem(theirs).decode()]}
    remote = {"auth": "pubkey", "id": bed.our_id, "cacerts": [certificate_pem(authority.certificate).decode()]}
    for revoked in ([], [theirs]):
        trust = CertificateTrust(
            (authority.certificate,),
            revocation_lists=(authority.revocation_list(revoked),),
            require_revocation_list=True,
        )
        own_auth = CertificateAuth((authority.issue(bed.our_id, credentials.our_key),), credentials.our_key)
        caplog.clear()
        with charon(bed, f"crl-{role}-{len(revoked)}", IKE, ESP, local, remote) as name:
            refusals = connect(bed, name, role, own_auth, trust)
        assert refusals == len(revoked)
        reasons = [record.fields["reason"] for record in caplog.records if record.levelno == logging.WARNING]  # type: ignore[attr-defined]  # ours
        assert ["is revoked" in reason for reason in reasons] == [True] * len(revoked)


def connect(bed: Any, name: str, role: str, own_auth: CertificateAuth, trust: CertificateTrust) -> int:
    """Try it; how many handshakes were refused and counted."""
    builder: Any = Client.builder() if role == "initiator" else Server.builder()
    builder.with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_auth(own_auth, trust)
    builder.with_proposals([IKE], [ESP]).with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])
    if role == "initiator":
        client = builder.build()
        try:
            bed.loop.run(client.connect(bed.peers, timeout=LIMIT_SECONDS))
        except AuthenticationError:
            return int(client.metrics.ike_handshake_failures)
        else:
            return 0
        finally:
            bed.loop.run(client.shutdown())
    server = bed.loop.run(builder.bind(bed.ours_address))
    try:
        with contextlib.suppress(Exception):
            bed.vici.initiate(name)

        async def told() -> tuple[int, int]:
            return server.metrics.ike_handshake_failures, len(server.sessions)

        # charon has our answer a moment before our loop has told what it was: so the loop is asked, not read from here
        failures, sessions = bed.loop.run(told())
        assert sessions == 1 - failures
        return int(failures)
    finally:
        bed.loop.run(server.close())


@pytest.mark.parametrize("group", BRAINPOOL)
def test_brainpool_s_curves(bed: Any, group: str) -> None:
    """In the IKE_SA and as PFS, and found by the probe."""
    ike, esp = f"aes256gcm16-prfsha384-{group}", f"aes256gcm16-{group}"
    with charon(bed, group, ike, esp, *bed.psk_sides()):
        report = in_netns(bed.ours.path, lambda: probe(bed.peers, 500, every=True, wanted=None, timeout=1.0))
        assert report.accepted["group"] == [group]
        builder = Client.builder().with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_psk(bed.secret)
        builder.with_proposals([ike], [esp]).with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])
        own = builder.build()
        try:
            session = bed.loop.run(own.connect(bed.peers, timeout=LIMIT_SECONDS))
            bed.attach(session)
            bed.loop.run(session.rekey())
            assert str(session.info.suite) == ike
            assert str(next(iter(session.children.values())).suite) == esp
            bed.ping()
        finally:
            bed.detach()
            bed.loop.run(own.shutdown())
