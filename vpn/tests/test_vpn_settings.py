"""server.toml: what is accepted, what is refused and with which message, and the resulting connections."""

import base64
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warren_cli.errors import CliError
from warren_ikev2.configuration import Uniqueness
from warren_ikev2.credentials import CertificateAuth, EapTrust, RawKeyAuth, RawKeyTrust
from warren_vpn.server.connections import RETRANSMISSIONS, build_connections, retransmission
from warren_vpn.server.errors import ServerError, ServerSettingError
from warren_vpn.server.folder import Keys, make_folder, public_text, read_keys
from warren_vpn.server.settings import ServerSettings, parse_settings, read_settings
from warren_vpn.users.model import User, Users
from warren_vpn.users.password import make_verifier

SECRET = Ed25519PrivateKey.generate()
KEY, OTHER_KEY = (public_text(Ed25519PrivateKey.generate().public_key()) for _ in range(2))
PLAIN = 'identity = "vpn.example.org"\n[tunnel]\npools = ["10.66.0.0/24", "fd66::/64"]\n'


def user(name: str = "alice", more: str = "") -> str:
    return f'[[user]]\nname = "{name}"\npublic_key = "{KEY}"\n{more}\n'


def test_what_init_writes_is_valid(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "vpn", "vpn.example.org", ("192.0.2.10",))
    settings = read_settings(made.settings)
    keys = read_keys(made.settings.parent, settings)
    assert keys.public_key == made.public_key
    names = keys.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["vpn.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.10")]
    assert {path.name: path.stat().st_mode & 0o777 for path in made.settings.parent.iterdir()} == {
        "server.toml": 0o600, "server.key": 0o600, "ca.key": 0o600, "server-certificate.key": 0o600,
        "ca.crt": 0o644, "server.crt": 0o644,
    }  # fmt: skip
    with pytest.raises(ServerError, match="exists"):
        make_folder(tmp_path / "vpn", "vpn.example.org")


def test_init_without_a_certificate_names_none(tmp_path: Path) -> None:
    made = make_folder(tmp_path, "192.0.2.10", certificate=False)
    settings = read_settings(made.settings)
    assert (settings.certificate, settings.client_ca, made.authority) == (None, None, None)
    assert read_keys(tmp_path, settings).chain == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identity =", "not TOML"),
        (PLAIN.replace("vpn.example.org", "vpn example"), "identity"),
        (PLAIN.replace("fd66::/64", "10.66.0.128/25"), "overlaps another pool"),
        (PLAIN.replace("10.66.0.0/24", "10.66.0.1/24"), "tunnel/pools/0"),
        (PLAIN.replace("10.66.0.0/24", "10.66.0.0/31"), "fewer than 4 addresses"),
        (PLAIN.replace("[tunnel]", "compression = true\n[tunnel]"), "compression"),
        (PLAIN + 'device = "a;b"\n', "tunnel/device"),
        (PLAIN + "[limits]\ninactivity_s = 5\n", "limits/inactivity_s"),
        (PLAIN + '[limits]\nsame_user = "maybe"\n', "limits/same_user"),
        (PLAIN + user() + user(), "alice is there twice"),
        (PLAIN + user(more='addresses = ["10.67.0.1"]'), "10.67.0.1 is in no pool"),
        (PLAIN + user(more='addresses = ["10.66.0.1"]'), "10.66.0.1 is taken"),
        (PLAIN + user(more='addresses = ["10.66.0.9", "10.66.0.8"]'), "at most one address of each IP version"),
        (PLAIN + user("alice\\u0000"), "user/0/name"),
        (PLAIN + user().replace(KEY, KEY[:-4]), "must be the Base64"),
        (PLAIN.replace("[tunnel]", "natt_port = 500\n[tunnel]"), "must differ"),
        (PLAIN.replace("[tunnel]", 'certificate = "server.crt"\n[tunnel]'), "belong together"),
    ],
)
def test_an_invalid_setting_is_named(text: str, message: str) -> None:
    with pytest.raises(ServerSettingError, match=r"server\.toml: ") as caught:
        parse_settings(text, "server.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    made = make_folder(tmp_path, "vpn.example.org")
    (tmp_path / "server.key").chmod(0o644)
    with pytest.raises(ServerSettingError, match="chmod 600"):
        read_keys(tmp_path, read_settings(made.settings))


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    made = make_folder(tmp_path, "vpn.example.org")
    settings = read_settings(made.settings).model_copy(update={"identity": "other.example.org"})
    with pytest.raises(
        ServerSettingError, match=r"is not for identity 'other\.example\.org'; its names: vpn\.example\.org"
    ):
        read_keys(tmp_path, settings)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"server\.key"):
        read_keys(tmp_path, parse_settings(PLAIN, "server.toml"))


def test_each_user_has_a_connection_and_they_share_the_pool() -> None:
    more = 'addresses = ["10.66.0.9"]\nnetworks = ["192.0.2.0/24"]\nrate_mbit = 8\nallow_from = ["198.51.100.0/24"]'
    settings = parse_settings(PLAIN + user("alice", more) + user("bob"), "server.toml")
    made = build_connections(settings, Keys(SECRET))
    alice, bob = made.engine
    assert (alice.name, str(alice.remote_identity)) == ("key-alice", "alice")
    assert isinstance(alice.remote_auth, RawKeyTrust)
    assert alice.address_pool is bob.address_pool
    assert alice.peers is bob.peers
    assert [str(network) for network in alice.remote_addresses] == ["198.51.100.0/24"]
    assert bob.remote_addresses == ()
    assert made.traits["alice"].rate == 1_000_000
    assert made.traits["bob"].rate is None
    assert alice.uniqueness is Uniqueness.REPLACE
    assert alice.address_pool is not None
    assert alice.address_pool.reserved == {ip_address(text) for text in ("10.66.0.1", "fd66::1", "10.66.0.9")}
    own = alice.for_peer("alice")
    assert own is not None
    assert [str(ts) for ts in own.children[0].local_ts] == ["192.0.2.0/24"]
    assert base64.b64decode(KEY)


def test_a_silent_client_is_offline_when_the_inactivity_is_over() -> None:
    settings = parse_settings(PLAIN + user(), "server.toml")
    (connection,) = build_connections(settings, Keys(SECRET)).engine
    resent = retransmission(60)
    waits = sum(resent.delay(sent) for sent in range(1, RETRANSMISSIONS + 2))
    assert connection.dpd_delay is not None
    assert connection.dpd_delay + waits == pytest.approx(60)
    assert connection.retransmission == resent


# Users of the user file


def file_user(name: str, **fields: object) -> User:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return User.model_validate({"name": name, "created_at": now, "changed_at": now} | fields)


def with_certificate(folder: Path) -> tuple[ServerSettings, Keys]:
    settings = read_settings(make_folder(folder, "vpn.example.org").settings)
    return settings, read_keys(folder, settings)


def test_each_way_to_log_in_has_its_connection(tmp_path: Path) -> None:
    settings, keys = with_certificate(tmp_path)
    known = (
        file_user("alice", password=make_verifier("correct horse battery", bytes(16)), certificate_identities=["alice", "CN=alice"]),
        file_user("carol", public_key=KEY, allow_from=["198.51.100.0/24"], rate_mbit=8),
        file_user("gone", public_key=OTHER_KEY, disabled=True),
    )  # fmt: skip
    made = build_connections(settings, keys, Users(users=known))
    found = {connection.name: connection for connection in made.engine}
    assert list(found) == ["certificate-alice", "certificate-CN=alice", "key-carol", "password"]
    assert isinstance(found["key-carol"].local_auth, RawKeyAuth)
    assert found["key-carol"].remote_addresses == (ip_network("198.51.100.0/24"),)
    assert isinstance(found["password"].local_auth, CertificateAuth)
    assert found["password"].remote_auth == EapTrust(mschapv2=False)
    assert found["password"].remote_identity is None
    assert {name: traits.user for name, traits in made.traits.items()} == {
        "alice": "alice", "CN=alice": "alice", "carol": "carol",
    }  # fmt: skip
    assert made.traits["carol"].rate == 1_000_000
    assert found["password"].peers is not None
    assert set(found["password"].peers) == {"alice", "CN=alice", "carol"}
    assert made.users == 2
    # without a certificate the server proves itself by its raw key, and nobody can log in by certificate
    plain = build_connections(parse_settings(PLAIN, "x"), Keys(SECRET), Users(users=known[:1]))
    assert [(one.name, type(one.local_auth)) for one in plain.engine] == [("password", RawKeyAuth)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Alice", "certificate_identities": ["x"]}, "in server.toml and in the user file"),
        ({"name": "bob", "certificate_identities": ["x"], "addresses": ["10.67.0.1"]}, "10.67.0.1 is in no pool"),
        ({"name": "bob", "certificate_identities": ["x"], "addresses": ["10.66.0.9"]}, "10.66.0.9 is taken"),
    ],
)
def test_users_who_contradict_the_settings_are_refused(fields: dict[str, object], message: str) -> None:
    settings = parse_settings(PLAIN + user(more='addresses = ["10.66.0.9"]'), "x")
    with pytest.raises(ValueError, match=message):
        build_connections(settings, Keys(SECRET), Users(users=(file_user(**fields),)))  # type: ignore[arg-type]
