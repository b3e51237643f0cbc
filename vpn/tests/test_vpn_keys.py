"""`warren vpn key`: raw keys for users."""

import base64
import stat
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from warren_vpn.keys import app
from warren_vpn.profiles.credentials import CredentialError


def test_a_new_key_is_for_its_owner_only_and_its_public_half_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    made = CliRunner().invoke(app, ["new", str(path)])
    assert made.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = load_pem_private_key(path.read_bytes(), None)
    assert base64.b64decode(made.stdout) == key.public_key().public_bytes_raw()  # type: ignore[union-attr]
    assert CliRunner().invoke(app, ["public", str(path)]).stdout == made.stdout


def test_a_key_is_never_replaced_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    CliRunner().invoke(app, ["new", str(path)])
    before = path.read_bytes()
    again = CliRunner().invoke(app, ["new", str(path)])
    assert isinstance(again.exception, CredentialError)
    assert path.read_bytes() == before
    path.write_text("no key")
    wrong = CliRunner().invoke(app, ["public", str(path)])
    assert isinstance(wrong.exception, CredentialError)
    assert "no private key in PEM" in str(wrong.exception)
