"""`warren vpn profile` from the options to the files, with a server's folder as `warren vpn server init` makes it."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from warren_vpn.commands import app
from warren_vpn.profiles.files import read_profile
from warren_vpn.server.folder import make_folder

PASSWORD = "correct horse battery"


class Office:
    """A server's folder with users, and a folder for profiles."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder / "server", folder / "out"
        make_folder(self.folder, "vpn.example.org", ("192.0.2.10",))
        self.user("add", "alice", stdin=PASSWORD)
        self.user("add", "bob", "--mschapv2", "--network", "10.1.0.0/16", stdin=PASSWORD)
        self.user("add", "dave", "--certificate", "dave")
        self.user("certificate", "dave", "--out", str(self.folder / "dave"))

    def user(self, *arguments: str, stdin: str = "") -> None:
        result = CliRunner().invoke(app, ["user", *arguments, "--users", str(self.folder / "users.json")], input=stdin)
        assert result.exit_code == 0, (result.output, result.exception)

    def create(self, *arguments: str, stdin: str = "") -> Result:
        where = ("--config", str(self.folder / "server.toml"), "--out", str(self.out))
        return CliRunner().invoke(app, ["profile", "create", *arguments, *where], input=stdin)

    @property
    def certificate(self) -> tuple[str, ...]:
        return (
            "--certificate",
            str(self.folder / "dave" / "dave.crt"),
            "--key",
            str(self.folder / "dave" / "dave.key"),
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """Made once: each user costs a scrypt."""
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture
def office(shared: Office, tmp_path: Path) -> Office:
    shared.out = tmp_path / "out"
    return shared


def test_warrens_profile_and_its_qr_codes(office: Office, tmp_path: Path) -> None:
    codes = ("--qr", "--qr-file", str(tmp_path / "code.svg"))
    made = office.create("alice", "--name", "office", "--server", "192.0.2.10", "--server", "vpn.example.org", *codes)
    assert made.exit_code == 0, made.exception
    assert "▀" in made.stdout or "█" in made.stdout
    assert (tmp_path / "code.svg").read_text().lstrip().startswith("<?xml")
    profile = read_profile(office.out / "office-alice.json")
    assert [server.host for server in profile.servers] == ["192.0.2.10", "vpn.example.org"]
    assert profile.is_full_tunnel
    shown = CliRunner().invoke(app, ["profile", "show", str(office.out / "office-alice.json"), "--json"])
    assert json.loads(shown.stdout)["login"] == {"kind": "password", "user": "alice"}
    assert "exists" in str(office.create("alice", "--name", "office").exception)
    assert office.create("alice", "--name", "office", "--force", "--qr-file", str(tmp_path / "code.png")).exit_code == 0
    assert (tmp_path / "code.png").read_bytes().startswith(b"\x89PNG")


def test_each_client_gets_its_files(office: Office) -> None:
    assert office.create("bob", "--for", "strongswan").exit_code == 0
    assert office.create("bob", "--for", "windows").exit_code == 0
    with_key = (*office.certificate, "--with-key")
    made = office.create("dave", "--for", "apple", *with_key, stdin="a passphrase\n")
    assert made.exit_code == 0, made.exception
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in office.out.iterdir()}
    assert modes == {
        "vpn-bob.conf": 0o644, "vpn-bob-ca.pem": 0o644, "vpn-bob.sswan": 0o644, "vpn-bob.ps1": 0o644,
        "vpn-dave.mobileconfig": 0o600,
    }  # fmt: skip
    assert "10.1.0.0/16" in (office.out / "vpn-bob.conf").read_text()
    assert all(b"a passphrase" not in path.read_bytes() for path in office.out.iterdir())


def test_a_profile_with_a_key_is_for_its_owner_only_and_is_shown_without_it(office: Office) -> None:
    assert office.create("dave", *office.certificate, "--with-key").exit_code == 0
    path = office.out / "vpn-dave.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE KEY" in path.read_text()
    for options in ((), ("--json",)):
        assert "PRIVATE KEY" not in CliRunner().invoke(app, ["profile", "show", str(path), *options]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "unknown user 'nobody'"),
        (("alice", "--name", "../x"), "name: must be 1 to 63 characters"),
        (("alice", "--server", "a b"), "host: must be a domain name or an address"),
        (("alice", "--search-domain", "-"), "search_domains/0: must be a domain name"),
        (("alice", "--for", "apple"), "--mschapv2"),
        (("alice", "--for", "windows", "--qr"), "--qr: only for Warren's client"),
        (("alice", "--for", "apple", "--kill-switch"), "--kill-switch: only for Warren's client"),
        (("alice", "--with-key"), "--with-key: needs --key FILE"),
        (("dave",), "give it with --certificate"),
        (("alice", "--qr-file", "code.gif"), "must end in .svg or .png"),
    ],
)
def test_what_does_not_suit_is_refused_with_the_remedy(
    office: Office, arguments: tuple[str, ...], message: str
) -> None:
    result = office.create(*arguments)
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
    assert not office.out.exists()


def test_a_disabled_user_gets_no_profile(office: Office) -> None:
    office.user("disable", "alice")
    assert "warren vpn user enable alice" in str(office.create("alice").exception)
    office.user("enable", "alice")
    assert office.create("alice").exit_code == 0
