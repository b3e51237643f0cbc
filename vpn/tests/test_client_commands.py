"""The verbs of the client: wrong calls are one line with the remedy."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from warren_testkit.ikev2.keys import private_pem
from warren_vpn.client.show import rows
from warren_vpn.commands import app

PUBLIC = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="  # RFC 8032, 7.1, test 1


def write_profile(folder: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "version": 1,
        "name": "office",
        "servers": [{"host": "192.0.2.1"}],
        "server_identity": "vpn.example",
        "server_trust": {"kind": "raw-key", "public_key": PUBLIC},
        "identity": "alice@example",
        "login": {"kind": "password", "user": "alice"},
    }
    path = folder / "office.json"
    path.write_text(json.dumps(values | changes))
    return path


def run(*arguments: str, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    return result.exit_code, result.output


@pytest.mark.parametrize("verb", [["client", "--profile", "p"], ["down"], ["restore"]])
def test_other_systems_get_one_clear_line(verb: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    code, output = run(*verb)
    assert code == 1
    assert "Linux only" in output
    assert "utun" in output
    assert len(output.splitlines()) == 1


def test_a_missing_password_names_the_user(tmp_path: Path) -> None:
    code, output = run("client", "--profile", str(write_profile(tmp_path)), "--state", str(tmp_path / "state"))
    assert code == 1
    assert "Password of alice" in output
    assert not (tmp_path / "state").exists()


def test_a_password_file_needs_a_login_by_password(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(private_pem(Ed25519PrivateKey.generate()))
    profile = write_profile(tmp_path, login={"kind": "raw-key", "key_file": "key.pem"})
    code, output = run("client", "--profile", str(profile), "--password-file", str(key))
    assert (code, "logs in by a key" in output) == (1, True)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("--kill-switch", "sometimes", "off, when-up, always"), ("--device", "a b", "invalid name 'a b'")],
)
def test_a_wrong_option_names_what_is_allowed(tmp_path: Path, option: str, value: str, reason: str) -> None:
    arguments = ("client", "--profile", str(write_profile(tmp_path)), option, value)
    code, output = run(*arguments, stdin="secret\n")
    assert (code, reason in output) == (1, True)
    assert "secret" not in output


def test_a_wrong_profile_names_the_field(tmp_path: Path) -> None:
    code, output = run("client", "--profile", str(write_profile(tmp_path, routes=["10.0.0.1/8"])), stdin="secret\n")
    assert code == 1
    assert "routes" in output


def test_nothing_is_to_be_restored(tmp_path: Path) -> None:
    assert run("restore", "--state", str(tmp_path)) == (0, "nothing to put back\n")
    assert run("down", "--state", str(tmp_path)) == (0, "nothing to put back\n")


@pytest.mark.parametrize("verb", ["client", "down", "restore"])
def test_every_help_ends_with_an_example(verb: str) -> None:
    code, output = run(verb, "--help")
    assert code == 0
    assert f"warren vpn {verb}" in output


def test_the_status_in_words() -> None:
    status = {
        "state": "up", "profile": "office", "device": "warren-vpn0", "server": "vpn.example", "up_seconds": 7,
        "addresses": ["10.77.0.1"], "routes": ["0.0.0.0/0"], "dns": [], "kill_switch": "off", "bytes_in": 1000, "bytes_out": 1,
    }  # fmt: skip
    found = dict(rows(status))
    assert found["client"] == "up, profile office, device warren-vpn0"
    assert found["connected to"] == "vpn.example, for 7 s"
    assert found["traffic"].endswith("1 B out")


def test_compression_is_refused_with_the_reason(tmp_path: Path) -> None:
    code, output = run("client", "--profile", str(write_profile(tmp_path, compression=True)), stdin="secret\n")
    assert code == 1
    assert "lengths of compressed packets depend on their content" in " ".join(output.split())
