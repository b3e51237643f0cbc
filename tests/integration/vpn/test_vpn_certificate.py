"""`warren vpn server renew` next to a running server: the next login gets the new certificate, and no session ends."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from warren_ikev2.credentials import CertificateTrust
from warren_testkit.lab.vpn_bed import INSIDE, VpnClient, make_vpn_bed
from warren_vpn.commands import app
from warren_vpn.server.certificate import renew
from warren_vpn.users.edits import Options, add
from warren_vpn.users.store import UserFile

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
PASSWORD = "correct horse battery"


def served(client: VpnClient) -> x509.Certificate:
    """The certificate by which the server has proved itself."""
    assert client.session.info.peer_certificate is not None
    return x509.load_der_x509_certificate(client.session.info.peer_certificate)


def test_a_renewed_certificate_is_used_by_the_next_login_and_ends_no_session() -> None:
    with make_vpn_bed(certificate=True) as bed:
        bed.write_settings()
        for name in ("alice", "bob"):
            add(UserFile(bed.folder / "users.json"), name, PASSWORD, False, Options())
        old = renew(bed.settings, None, None, datetime.now(UTC) - timedelta(days=815))
        trust = CertificateTrust((x509.load_pem_x509_certificate((bed.folder / "ca.crt").read_bytes()),))
        bed.start()
        assert '"event": "certificate.expires"' in bed.log
        assert bed.status().certificate_expires == old.expires
        with bed.client("alice", password=PASSWORD, trust=trust) as alice:
            assert served(alice).not_valid_after_utc == old.expires
            done = CliRunner().invoke(app, ["server", "renew", "--config", str(bed.settings)])
            assert (done.exit_code, done.stderr) == (0, "")
            status = bed.status()
            assert status.certificate_expires is not None
            assert status.certificate_expires - old.expires > timedelta(days=800)
            with bed.client("bob", password=PASSWORD, trust=trust) as bob:
                current = x509.load_pem_x509_certificate((bed.folder / "server.crt").read_bytes())
                assert served(bob).public_bytes(Encoding.DER) == current.public_bytes(Encoding.DER)
                assert current.not_valid_after_utc == status.certificate_expires
                assert not alice.session.closed
                assert alice.namespace.run("ping", "-c", "1", "-W", "5", "-I", str(alice.addresses[4]), INSIDE[4])
        assert bed.stop() == 0
