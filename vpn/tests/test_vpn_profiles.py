"""Profiles of Warren's, strongSwan's, Apple's and Windows's clients: what they say, and that their readers accept it."""

import base64
import json
import plistlib
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from warren_ikev2.credentials import CertificateAuth, CertificateTrust, EapGtcAuth, RawKeyAuth, RawKeyTrust
from warren_testkit.ikev2.keys import Authority
from warren_testkit.vpn.apple import prose_faults, schema_faults
from warren_testkit.vpn.powershell import CMDLETS, name_faults, splatted_keys, syntax_faults
from warren_vpn.profiles import apple, strongswan, warren, windows
from warren_vpn.profiles.credentials import CredentialError, local_auth, remote_auth
from warren_vpn.profiles.facts import BuiltProfile, Secrets, ServerFacts, UnsuitableProfileError
from warren_vpn.profiles.files import ProfileError, build_profile, parse_profile, read_profile
from warren_vpn.profiles.profile import EVERYTHING, ClientProfile, PasswordLogin, ProfileServer
from warren_vpn.users.certificate import UserCertificate, identities_of, issue_certificate
from warren_vpn.users.model import User
from warren_vpn.users.password import make_nt_hash, make_verifier

NOW = datetime.now(UTC)
PASSWORD = "correct horse battery"
CA = Authority.make("VPN CA")
SERVER_KEY, USER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def raw(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def facts(*, split: bool = False, authority: bool = True) -> ServerFacts:
    routes = (ip_network("10.1.0.0/16"), ip_network("fd66::/48"))
    return ServerFacts(
        name="office",
        servers=(ProfileServer(host="vpn.example.com"), ProfileServer(host="192.0.2.1")),
        identity="vpn.example.com",
        public_key=raw(SERVER_KEY),
        authority_pem=CA.certificate.public_bytes(Encoding.PEM).decode() if authority else None,
        routes=routes if split else EVERYTHING,
        dns_servers=(ip_address("10.1.0.53"),),
        search_domains=("example.com",),
    )


def user(name: str = "alice", *, password: bool = True, mschapv2: bool = False, **fields: Any) -> User:
    values: dict[str, Any] = {"name": name, "created_at": NOW, "changed_at": NOW, **fields}
    values["password"] = make_verifier(PASSWORD, bytes(16)) if password else None
    values["nt_hash"] = make_nt_hash(PASSWORD) if mschapv2 else None
    return User.model_validate(values)


def own_certificate(name: str = "alice") -> UserCertificate:
    assert isinstance(CA.key, ec.EllipticCurvePrivateKey)
    return issue_certificate(name, CA.certificate, CA.key, NOW)


def certified(name: str = "alice") -> tuple[User, Secrets]:
    holder = user(name, password=False, certificate_identities=identities_of(name))
    return holder, Secrets(own_certificate(name), "a passphrase")


# Warren's own


def test_a_profile_says_what_the_client_needs(tmp_path: Path) -> None:
    alice = user()
    built = warren.build(warren.make_profile(facts(), alice, Secrets(), kill_switch=True), alice)
    (file,) = built.files
    profile = parse_profile(file.content.decode(), "x")
    assert not file.secret
    assert file.name == "office-alice.json"
    assert profile.is_full_tunnel
    assert profile.kill_switch
    assert profile.identity == "alice"
    assert isinstance(profile.login, PasswordLogin)
    assert [(server.host, server.port, server.ike_port) for server in profile.servers] == [
        ("vpn.example.com", 4500, 500), ("192.0.2.1", 4500, 500),
    ]  # fmt: skip
    assert remote_auth(profile) == CertificateTrust((CA.certificate,))
    assert local_auth(profile, tmp_path, PASSWORD) == EapGtcAuth("alice", PASSWORD)
    with pytest.raises(CredentialError, match="password of user 'alice'"):
        local_auth(profile, tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_a_profile_with_a_key(tmp_path: Path, inside: bool) -> None:
    holder = user("carol", password=False, public_key=raw(USER_KEY))
    profile = warren.make_profile(facts(), holder, Secrets(private_key=pem(USER_KEY) if inside else None))
    (file,) = warren.build(profile, holder).files
    assert file.secret is inside
    assert ("PRIVATE KEY" in file.content.decode()) is inside
    assert "PRIVATE KEY" not in repr(profile)
    assert remote_auth(profile) == RawKeyTrust((SERVER_KEY.public_key(),))
    if not inside:
        with pytest.raises(Exception, match=r"carol\.key"):
            local_auth(profile, tmp_path)
        (tmp_path / "carol.key").write_text(pem(USER_KEY))
        (tmp_path / "carol.key").chmod(0o644)
        with pytest.raises(CredentialError, match="chmod 600"):
            local_auth(profile, tmp_path)
        (tmp_path / "carol.key").chmod(0o600)
    own = local_auth(profile, tmp_path)
    assert isinstance(own, RawKeyAuth)
    assert own.private_key.public_key() == USER_KEY.public_key()


def test_a_profile_with_a_certificate(tmp_path: Path) -> None:
    holder, secrets = certified()
    secrets = Secrets(secrets.certificate, private_key=own_certificate().key_pem)
    with pytest.raises(CredentialError, match="does not belong"):
        local_auth(warren.make_profile(facts(), holder, secrets), tmp_path)
    assert secrets.certificate is not None
    secrets = Secrets(secrets.certificate, private_key=secrets.certificate.key_pem)
    profile = warren.make_profile(facts(), holder, secrets)
    assert isinstance(local_auth(profile, tmp_path), CertificateAuth)
    assert profile.identity == "alice"


def test_a_profile_with_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    holder = user("carol", password=False, public_key=raw(USER_KEY))
    profile = warren.make_profile(facts(), holder, Secrets(private_key=pem(USER_KEY)))
    path = tmp_path / "profile.json"
    path.write_text(build_profile(profile))
    path.chmod(0o640)
    with pytest.raises(ProfileError, match="chmod 600"):
        read_profile(path)
    path.chmod(0o600)
    assert read_profile(path) == profile


def test_a_profile_may_be_toml() -> None:
    text = f"""
        name = "office"
        server_identity = "vpn.example.com"
        identity = "alice"
        routes = ["10.0.0.0/8"]
        servers = [{{ host = "vpn.example.com", port = 4501, ike_port = 4501 }}]
        server_trust = {{ kind = "raw-key", public_key = "{raw(SERVER_KEY)}" }}
        login = {{ kind = "password", user = "alice" }}
    """
    profile = parse_profile(text, "x")
    assert (profile.version, profile.servers[0].port, profile.is_full_tunnel) == (1, 4501, False)
    assert parse_profile(build_profile(profile), "x") == profile


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: must be 1"),
        ({"unknown": 1}, "unknown: unknown field"),
        ({"servers": []}, "servers: must have at least one entry"),
        ({"servers": [{"host": "a b"}]}, "servers/0/host: must be a domain name or an address"),
        ({"servers": [{"host": "0.0.0.0"}]}, "servers/0/host"),  # noqa: S104
        ({"servers": [{"host": "a", "port": 0}]}, "servers/0/port: must be at least 1"),
        ({"routes": ["10.0.0.1/8"]}, "routes/0: the network has host bits"),
        ({"routes": ["10.0.0.0/8", "10.0.0.0/8"]}, "routes: the same network twice"),
        ({"server_trust": {"kind": "psk"}}, "server_trust: `kind` must be"),
        ({"server_trust": {"kind": "certificate", "authorities": "PRIVATE KEY"}}, "holds a private key"),
        ({"login": {"kind": "raw-key"}}, "login: needs exactly one of"),
        ({"login": {"kind": "password", "user": "a\nb"}}, "login/user: must be 1 to 64"),
        ({"search_domains": ["-x"]}, "search_domains/0: must be a domain name"),
        ({"mtu": 576}, "mtu: must be at least 1,280"),
        ({"keepalive_s": "20"}, "keepalive_s: must be an integer"),
        ({"kill_switch": "yes"}, "kill_switch: must be true or false"),
        ({"ike_proposals": ["aes256-foo"]}, "ike_proposals/0: unknown keyword 'foo'"),
        ({"identity": ""}, "identity"),
    ],
)
def test_an_invalid_profile_names_the_field(change: dict[str, Any], message: str) -> None:
    valid = json.loads(build_profile(warren.make_profile(facts(), user(), Secrets())))
    with pytest.raises(ProfileError) as refused:
        parse_profile(json.dumps(valid | change), "office.json")
    assert str(refused.value).startswith("office.json: ")
    assert message in str(refused.value)


# strongSwan's


def test_strongswan_gets_its_configuration_and_keys() -> None:
    built = strongswan.build(facts(split=True), user(), Secrets())
    files = {file.name: file.content.decode() for file in built.files}
    assert set(files) == {"office-alice.conf", "office-alice-ca.pem", "office-alice.sswan"}
    text = files["office-alice.conf"]
    for line in (
        "auth = eap-gtc",
        'eap_id = "alice"',
        'id = "fqdn:vpn.example.com"',
        "vips = 0.0.0.0, ::",
        "cacerts = office-alice-ca.pem",
    ):
        assert line in text
    android = json.loads(files["office-alice.sswan"])
    assert android["type"] == "ikev2-eap"
    assert android["local"] == {"eap_id": "alice"}
    assert android["split-tunneling"] == {"subnets": ["10.1.0.0/16", "fd66::/48"]}
    assert x509.load_der_x509_certificate(base64.b64decode(android["remote"]["cert"])) == CA.certificate
    assert json.loads(strongswan.build(facts(), user(), Secrets()).files[-1].content)["split-tunneling"] == {
        "block-ipv4": True, "block-ipv6": True,
    }  # fmt: skip


def test_strongswan_by_key_against_a_server_without_certificate() -> None:
    holder = user("carol", password=False, public_key=raw(USER_KEY))
    built = strongswan.build(facts(authority=False), holder, Secrets())
    files = {file.name: file.content.decode() for file in built.files}
    assert "pubkeys = office-carol-server.pem" in files["office-carol.conf"]
    assert files["office-carol.pub"].startswith("-----BEGIN PUBLIC KEY")
    assert not any(file.secret for file in built.files)


def test_the_android_profile_of_a_certificate_holds_its_key() -> None:
    holder, secrets = certified()
    file = strongswan.build(facts(), holder, secrets).files[-1]
    document = json.loads(file.content)
    assert file.secret
    assert document["type"] == "ikev2-cert"
    assert document["local"]["id"] == "alice"
    key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(document["local"]["p12"]), b"a passphrase")
    assert secrets.certificate is not None
    assert certificate == secrets.certificate.certificate
    assert key is not None


# Apple's


def apple_schema() -> list[dict[str, Any]]:
    for parent in Path(__file__).parents:
        path = parent / "shared" / "data" / "apple" / "com.apple.vpn.managed.yaml"
        if path.is_file():
            return list(yaml.safe_load(path.read_text())["payloadkeys"])
    pytest.skip("Apple's schema (../shared/data/apple) is not on this machine")


def plist(built: BuiltProfile) -> dict[str, Any]:
    (file,) = built.files
    found: dict[str, Any] = plistlib.loads(file.content)
    return found


def apple_profiles() -> dict[str, dict[str, Any]]:
    return {
        "certificate": plist(apple.build(facts(), *certified())),
        "password": plist(apple.build(facts(split=True), user(mschapv2=True), Secrets())),
    }


@pytest.mark.parametrize("login", ["certificate", "password"])
def test_apples_profile_follows_apples_schema(login: str) -> None:
    schema, profile = apple_schema(), apple_profiles()[login]
    vpn = profile["PayloadContent"][-1]
    assert vpn["PayloadType"] == "com.apple.vpn.managed"
    assert list(schema_faults(vpn, schema)) == []
    wrong = vpn | {"IKEv2": vpn["IKEv2"] | {"EnablePFS": True, "MTU": 9000, "Unknown": 1}}
    assert len(list(schema_faults(wrong, schema))) == 3  # the check can fail


@pytest.mark.parametrize("login", ["certificate", "password"])
def test_apples_profile_is_consistent(login: str) -> None:
    profile = apple_profiles()[login]
    assert list(prose_faults(profile)) == []
    assert {"PayloadIdentifier", "PayloadUUID", "PayloadType", "PayloadVersion"} <= set(profile)
    root, vpn = profile["PayloadContent"][0], profile["PayloadContent"][-1]
    assert x509.load_der_x509_certificate(root["PayloadContent"]) == CA.certificate
    assert vpn["IKEv2"]["IncludeAllNetworks"] == (1 if login == "certificate" else 0)
    assert PASSWORD not in str(profile)
    assert "passphrase" not in str(profile)
    assert profile == apple_profiles()[login] or login == "certificate"  # the key's container is salted


def test_a_server_on_other_ports_suits_strongswan_only() -> None:
    other = facts().model_copy(update={"servers": (ProfileServer(host="vpn.example.com", port=14500, ike_port=10500),)})
    files = {file.name: file.content.decode() for file in strongswan.build(other, user(), Secrets()).files}
    assert "remote_port = 14500" in files["office-alice.conf"]
    assert json.loads(files["office-alice.sswan"])["remote"]["port"] == 14500
    for build in (apple.build, windows.build):
        with pytest.raises(UnsuitableProfileError, match="UDP 500 and 4500 only"):
            build(other, user(mschapv2=True), Secrets())


def test_apple_and_windows_refuse_a_user_that_has_only_eap_gtc() -> None:
    for build in (apple.build, windows.build):
        with pytest.raises(UnsuitableProfileError, match="--mschapv2"):
            build(facts(), user(), Secrets())
        with pytest.raises(UnsuitableProfileError, match="server certificate"):
            build(facts(authority=False), user(mschapv2=True), Secrets())


# Windows's


def script(built: BuiltProfile) -> str:
    return built.files[0].content.decode("ascii").replace("\r\n", "\n")


@pytest.mark.parametrize("login", ["certificate", "password"])
def test_the_script_for_windows_is_valid_powershell(login: str) -> None:
    by_certificate = login == "certificate"
    text = script(
        windows.build(facts(split=True), *(certified() if by_certificate else (user(mschapv2=True), Secrets())))
    )
    assert syntax_faults(text) == []
    assert list(name_faults(text)) == []
    assert syntax_faults(text.replace("} finally {", "finally {", 1))
    assert list(name_faults(text.replace("-FilePath", "-Path")))
    assert list(name_faults(text.replace("'Maximum'", "'Most'"))) == ["EncryptionLevel: unknown value Most"]
    assert splatted_keys(text, "connection") <= CMDLETS["Add-VpnConnection"]
    assert splatted_keys(text, "suite") == CMDLETS["Set-VpnConnectionIPsecConfiguration"]
    data = json.loads(text.split("@'\n")[1].split("\n'@")[0])
    assert data["method"] == ("certificate" if by_certificate else "eap-mschapv2")
    assert data["routes"] == ["10.1.0.0/16", "fd66::/48"]
    assert data["split"] is True


def test_no_value_can_leave_the_data_of_the_script() -> None:
    """The only values with free text are validated names; even others stay on one line of ASCII."""
    hostile = facts().model_copy(update={"search_domains": ("x\n'@\n; Remove-Item C:\\ \u2019",)})  # not validated
    text = script(windows.build(hostile, user(mschapv2=True), Secrets()))
    assert "\nRemove-Item C:" not in text
    assert text.count("\n'@") == 1
    assert json.loads(text.split("@'\n")[1].split("\n'@")[0])["suffix"] == hostile.search_domains[0]


def test_a_users_certificate_is_for_clients_only() -> None:
    own = own_certificate("alice@example.com").certificate
    usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["alice@example.com"]
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_model_and_what_is_stored_agree() -> None:
    profile = warren.make_profile(facts(split=True), user(), Secrets())
    assert ClientProfile.model_validate_json(profile.model_dump_json()) == profile
