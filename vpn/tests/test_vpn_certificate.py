"""The server's certificate: its renewal, and the warnings before it ends."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from warren_trust.certificates import make_authority, names_of
from warren_vpn.commands import app
from warren_vpn.server.certificate import expiry_of, renew, warnings_of
from warren_vpn.server.errors import ServerError
from warren_vpn.server.folder import Keys, make_folder, read_keys
from warren_vpn.server.settings import read_settings

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=800)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "vpn", "vpn.example.org", ("192.0.2.10",)).settings


def keys_of(config: Path) -> Keys:
    return read_keys(config.parent, read_settings(config))


def test_a_renewed_certificate_has_the_same_key_names_and_ca(config: Path) -> None:
    before = keys_of(config)
    made = renew(config, None, None, LATER)
    after = keys_of(config)
    old, new = before.chain[0], after.chain[0]
    assert new.serial_number != old.serial_number
    assert new.public_key() == old.public_key()
    assert names_of(new) == names_of(old) == {"vpn.example.org", "192.0.2.10"}
    new.verify_directly_issued_by(after.client_authorities[0])
    assert made.expires == expiry_of(after)
    assert timedelta(days=824) < made.expires - LATER <= timedelta(days=825)
    assert made.path.stat().st_mode & 0o777 == 0o644
    assert {path.name for path in config.parent.iterdir()} == {
        "server.toml", "server.key", "ca.crt", "ca.key", "server.crt", "server-certificate.key",
    }  # fmt: skip


def test_it_ends_with_its_ca_and_not_after_it(config: Path) -> None:
    authority = keys_of(config).client_authorities[0]
    end = authority.not_valid_after_utc
    assert renew(config, None, None, end - timedelta(days=100)).expires == end
    with pytest.raises(ServerError, match="the CA expired on"):
        renew(config, None, None, end)


def test_a_certificate_of_another_ca_is_not_renewed(config: Path) -> None:
    before = keys_of(config).chain
    foreign = make_authority(NOW)
    (config.parent / "other.crt").write_bytes(foreign.pem)
    (config.parent / "other.key").write_bytes(foreign.key_pem)
    with pytest.raises(ServerError, match="of another CA"):
        renew(config, config.parent / "other.crt", config.parent / "other.key", NOW)
    with pytest.raises(ServerError, match="does not belong"):
        renew(config, config.parent / "ca.crt", config.parent / "other.key", NOW)
    assert keys_of(config).chain == before


def test_a_server_without_a_certificate_has_none_to_renew(tmp_path: Path) -> None:
    config = make_folder(tmp_path, "vpn.example.org", certificate=False).settings
    with pytest.raises(ServerError, match="does not expire"):
        renew(config, None, None, NOW)
    assert expiry_of(keys_of(config)) is None
    assert list(warnings_of(keys_of(config), LATER)) == []


def test_the_end_is_a_warning_a_month_before(config: Path) -> None:
    keys = keys_of(config)
    end, ca_end = keys.chain[0].not_valid_after_utc, keys.client_authorities[0].not_valid_after_utc
    assert list(warnings_of(keys, end - timedelta(days=31))) == []
    (warning,) = warnings_of(keys, end - timedelta(days=12, hours=1))
    assert "in 12 days" in warning
    assert "warren vpn server renew" in warning
    (warning,) = warnings_of(keys, end)
    assert "expired on" in warning
    _, warning = warnings_of(keys, ca_end - timedelta(days=3))
    assert "the users' certificates" in warning


def test_the_verbs_renew_and_warn(config: Path) -> None:
    """No server runs here; `tests/integration/vpn/test_vpn_certificate.py` has one that does."""
    run = CliRunner().invoke
    certificate = config.parent / "server.crt"
    renew(config, None, None, NOW - timedelta(days=800))
    checked = run(app, ["server", "check", "--config", str(config)])
    assert checked.exit_code == 0
    assert "warning: certificate: expires on" in checked.stderr
    renewed = run(app, ["server", "renew", "--config", str(config)])
    assert renewed.exit_code == 0, renewed.output
    assert str(certificate) in renewed.stdout
    assert "the next start uses the certificate" in renewed.stderr
    checked = run(app, ["server", "check", "--config", str(config)])
    assert (checked.exit_code, checked.stderr) == (0, "")
    certificate.write_bytes(make_authority(NOW).certificate.public_bytes(Encoding.PEM))
    refused = run(app, ["server", "renew", "--config", str(config)])
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
