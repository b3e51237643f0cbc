"""With charon: revoked certificates, and brainpool curves as key exchange and in the probe."""

import logging

import pytest

from warren_cli.ike.probe import probe
from warren_ikev2.aio import ClientBuilder
from warren_ikev2.credentials import CertificateAuth, CertificateTrust
from warren_ikev2.errors import AuthenticationError
from warren_lab.namespace import in_netns
from warren_testkit.ikev2.keys import certificate_pem
from warren_testkit.lab.ike_bed import LIMIT_SECONDS, Bed

pytestmark = [pytest.mark.root, pytest.mark.interop]


BRAINPOOL = ("ecp256bp", "ecp384bp", "ecp512bp")


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_revoked_charon_is_refused_logged_and_counted(bed: Bed, role: str, caplog: pytest.LogCaptureFixture) -> None:
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
        with bed.connection(f"crl-{role}-{len(revoked)}", (local, remote)) as name:
            refusals = connect(bed, name, role, own_auth, trust)
        assert refusals == len(revoked)
        reasons = [record.fields["reason"] for record in caplog.records if record.levelno == logging.WARNING]  # type: ignore[attr-defined]  # ours
        assert ["is revoked" in reason for reason in reasons] == [True] * len(revoked)


def connect(bed: Bed, name: str, role: str, own_auth: CertificateAuth, trust: CertificateTrust) -> int:
    """Connect; return how many handshakes were refused and counted."""
    builder = bed.builder(role).with_auth(own_auth, trust)
    if isinstance(builder, ClientBuilder):
        client = builder.build()
        try:
            bed.loop.run(client.connect(bed.peers, timeout=LIMIT_SECONDS))
        except AuthenticationError:
            return int(client.metrics.ike_handshake_failures)
        else:
            return 0
        finally:
            bed.loop.run(client.shutdown())
    return bed.refusals_of_charon(builder, name)


@pytest.mark.parametrize("group", BRAINPOOL)
def test_brainpool_s_curves(bed: Bed, group: str) -> None:
    """In the IKE_SA and as PFS, and found by the probe."""
    ike, esp = f"aes256gcm16-prfsha384-{group}", f"aes256gcm16-{group}"
    with bed.connection(group, None, ike, esp):
        report = in_netns(
            bed.ours.path, lambda: probe(bed.peers, 500, every=True, requested=None, timeout=LIMIT_SECONDS)
        )
        assert report.accepted is not None
        assert report.accepted["group"] == [group]
        with bed.connected(bed.client(ike, esp)) as own:
            bed.loop.run(own.session.rekey())
            assert str(own.session.info.suite) == ike
            assert str(next(iter(own.session.children.values())).suite) == esp
            bed.ping()
