"""The user file and the verbs of `warren vpn user`."""

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from warren_ikev2.auth.mschapv2 import password_hash
from warren_vpn.users.commands import app
from warren_vpn.users.errors import UserError, UserFileError
from warren_vpn.users.model import User
from warren_vpn.users.password import dummy_verifier, make_nt_hash, make_verifier
from warren_vpn.users.store import UserFile

PASSWORD = "correct horse battery"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def make_user(name: str, **fields: Any) -> User:
    return User.model_validate({"name": name, "public_key": None, "created_at": NOW, "changed_at": NOW} | fields)


# Passwords


def test_a_verifier_accepts_its_password_only() -> None:
    verifier = make_verifier(PASSWORD, bytes(16))
    assert verifier.accepts(PASSWORD)
    assert not verifier.accepts(PASSWORD + " ")
    assert not verifier.accepts("")
    assert not dummy_verifier(bytes(16)).accepts(PASSWORD)
    assert (verifier.n, verifier.r, verifier.p) == (2**15, 8, 1)
    assert verifier.digest.get_secret_value() not in repr(verifier) + str(verifier)


def test_the_same_characters_in_another_composition_are_the_same_password() -> None:
    assert make_verifier("gr\u00fc\u00dfe nach Hause", bytes(16)).accepts("gru\u0308\u00dfe nach Hause")


def test_the_nt_hash_is_that_of_rfc_2759() -> None:
    own = make_nt_hash("clientPass")
    assert own.hash == password_hash("clientPass")
    assert own.value.get_secret_value() not in repr(own)
    assert own.hash.hex() == "44ebba8d5312b8d611474411f56989ae"  # RFC 2759, 9.2


@pytest.mark.parametrize(
    "password", ["short", "x" * 257, "aaaaaaaaaaaaaaaa", "with a\tcontrol char", "with a\x00control char"]
)
def test_a_bad_password_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="password: must"):
        make_verifier(password, bytes(16))


# The file


def test_what_is_stored_is_read_again_and_only_the_owner_can(tmp_path: Path) -> None:
    file = UserFile(tmp_path / "sub" / "users.json")
    assert file.read().users == ()
    user = make_user(
        "alice", password=make_verifier(PASSWORD, bytes(16)), nt_hash=make_nt_hash(PASSWORD), networks=["10.0.0.0/8"]
    )
    file.edit(lambda users: users.with_user(user))
    assert UserFile(file.path).read().find("ALICE") == user
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert PASSWORD not in file.path.read_text()
    assert json.loads(file.path.read_text())["users"][0]["password"]["n"] == 2**15  # the parameters are stored
    file.path.chmod(0o604)
    with pytest.raises(UserFileError, match="chmod 600"):
        UserFile(file.path).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_file_belongs_to_the_owner_of_its_folder(tmp_path: Path) -> None:
    """The server that reads it has given up root."""
    os.chown(tmp_path, 65534, 65534)
    file = UserFile(tmp_path / "users.json")
    file.edit(lambda users: users.with_user(make_user("alice", certificate_identities=["alice"])))
    assert file.path.stat().st_uid == 65534


def test_writers_do_not_lose_each_others_changes(tmp_path: Path) -> None:
    path = tmp_path / "users.json"

    def add(number: int) -> None:
        UserFile(path).edit(
            lambda users: users.with_user(make_user(f"u{number}", certificate_identities=[f"u{number}"]))
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert len(UserFile(path).read().users) == 12


def test_a_reader_sees_each_change(tmp_path: Path) -> None:
    reader, writer = UserFile(tmp_path / "users.json"), UserFile(tmp_path / "users.json")
    for number in range(3):
        user = make_user(f"u{number}", certificate_identities=[f"u{number}"])
        writer.edit(lambda users, user=user: users.with_user(user))  # type: ignore[misc]
        assert len(reader.read().users) == number + 1
    assert reader.read() is reader.read()  # parsed once


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "invalid JSON"),
        ('{"version": 2}', "version: must be 1"),
        ('{"users": [{"name": "x"}]}', "users/0/created_at: required field"),
        ('{"more": 1}', "more: unknown field"),
    ],
)
def test_an_invalid_file_is_refused_with_the_field(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UserFileError, match=message):
        UserFile(path).read()


@pytest.mark.parametrize(
    "second",
    [
        {"name": "ALICE", "certificate_identities": ["x"]},
        {"name": "bob", "public_key": KEY},
        {"name": "bob", "certificate_identities": ["Alice@example.com"]},
        {"name": "bob", "certificate_identities": ["bob"], "addresses": ["10.66.0.9"]},
    ],
)
def test_users_do_not_share_names_keys_and_addresses(tmp_path: Path, second: dict[str, Any]) -> None:
    first = {
        "name": "alice",
        "public_key": KEY,
        "certificate_identities": ["alice@example.com"],
        "addresses": ["10.66.0.9"],
    }
    users = [one | {"created_at": NOW.isoformat(), "changed_at": NOW.isoformat()} for one in (first, second)]
    path = tmp_path / "users.json"
    path.write_text(json.dumps({"version": 1, "users": users}))
    path.chmod(0o600)
    with pytest.raises(UserFileError, match="two users have the same"):
        UserFile(path).read()


# The command


@pytest.fixture
def warren(tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, [*arguments, "--users", str(tmp_path / "users.json")], input=stdin)

    return run


def test_users_from_the_command_line(warren: Callable[..., Result], tmp_path: Path) -> None:
    added = warren(
        "add", "alice", "--network", "10.1.0.0/16", "--rate", "5", "--address", "10.66.0.10", stdin=PASSWORD + "\n"
    )
    assert added.exit_code == 0
    assert "eap-gtc" in added.stdout
    assert "NT hash" not in added.output
    assert warren("add", "carol", "--public-key", KEY).exit_code == 0
    shown = json.loads(warren("list", "--json").stdout)
    assert [(user["name"], user["login"], user["disabled"]) for user in shown] == [
        ("alice", ["eap-gtc"], False), ("carol", ["raw-key"], False),
    ]  # fmt: skip
    assert not {"password", "nt_hash"} & set(shown[0])
    assert warren("disable", "alice").exit_code == 0
    assert json.loads(warren("show", "Alice", "--json").stdout)["disabled"] is True
    assert warren("enable", "alice").exit_code == 0
    assert warren("set", "alice", "--all-networks", "--no-rate").exit_code == 0
    assert json.loads(warren("show", "alice", "--json").stdout)["networks"] == []
    with_hash = warren("passwd", "alice", "--mschapv2", stdin="another good one\n")
    assert "anybody who reads the user file can log in" in with_hash.stderr
    assert "eap-mschapv2" in with_hash.stdout
    assert warren("passwd", "alice", stdin="another good one\n").exit_code == 0
    user = UserFile(tmp_path / "users.json").read().find("alice")
    assert user is not None
    assert user.nt_hash is None
    assert warren("remove", "alice", "--yes").exit_code == 0
    assert [user["name"] for user in json.loads(warren("list", "--json").stdout)] == ["carol"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("add", "alice"), "short\n", "password: must have at least 12 characters"),
        (("add", "alice"), "", "write it to standard input"),
        (("add", "a b"), PASSWORD, "name: must be 1 to 64"),
        (("add", "alice", "--network", "10.0.0.1/8"), PASSWORD, "networks/0: the network has host bits"),
        (("add", "alice", "--public-key", "AAAA"), "", "public_key: must be a raw Ed25519 public key"),
        (
            ("add", "alice", "--address", "10.0.0.1", "--address", "10.0.0.2"),
            PASSWORD,
            "addresses: at most one of each IP version",
        ),
        (("add", "alice", "--rate", "0"), PASSWORD, "rate_mbit: must be greater than 0"),
        (("show", "nobody"), "", "unknown user 'nobody'"),
        (("passwd", "nobody"), PASSWORD, "unknown user 'nobody'"),
        (("set", "nobody", "--no-rate"), "", "unknown user 'nobody'"),
        (("remove", "nobody", "--yes"), "", "unknown user 'nobody'"),
    ],
)
def test_an_error_names_the_field_and_changes_nothing(
    warren: Callable[..., Result], tmp_path: Path, arguments: tuple[str, ...], stdin: str, message: str
) -> None:
    result = warren(*arguments, stdin=stdin)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert UserFile(tmp_path / "users.json").read().users == ()


def test_a_user_is_not_added_twice(warren: Callable[..., Result]) -> None:
    warren("add", "alice", stdin=PASSWORD)
    assert "user 'ALICE' exists" in str(warren("add", "ALICE", stdin=PASSWORD).exception)


def test_a_certificate_for_a_user(
    warren: Callable[..., Result], tmp_path: Path, make_ca: Callable[[Path], x509.Certificate]
) -> None:
    authority = make_ca(tmp_path)
    options = ("--ca", str(tmp_path / "ca.crt"), "--ca-key", str(tmp_path / "ca.key"), "--out", str(tmp_path / "out"))
    result = warren("certificate", "alice", *options)
    assert isinstance(result.exception, UserError)
    assert "unknown user" in str(result.exception)
    warren("add", "alice", stdin=PASSWORD)
    assert warren("certificate", "alice", *options).exit_code == 0
    made = x509.load_pem_x509_certificate((tmp_path / "out" / "alice.crt").read_bytes())
    made.verify_directly_issued_by(authority)
    assert stat.S_IMODE((tmp_path / "out" / "alice.key").stat().st_mode) == 0o600
    shown = json.loads(warren("show", "alice", "--json").stdout)
    assert shown["certificate_identities"] == ["alice", "CN=alice"]
    assert "certificate" in shown["login"]
