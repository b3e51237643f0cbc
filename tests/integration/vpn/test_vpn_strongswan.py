"""strongSwan's own client with the profiles that `warren vpn profile create` writes, against the running server."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from warren_lab.charon import Charon
from warren_lab.charon_conf import charon_settings
from warren_lab.errors import CommandFailedError
from warren_lab.ping import ping_command
from warren_lab.process import wait_until
from warren_testkit.lab.vpn_bed import INSIDE, LIMIT_SECONDS, SERVER, VpnBed, make_vpn_bed
from warren_trust.certificates import private_key_pem
from warren_vpn.commands import app
from warren_vpn.server.control import Reloaded, ReloadRequest
from warren_vpn.server.folder import public_text

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.usefixtures("namespaces"),
]
PASSWORD = "correct horse battery"
FOLDERS = {"-ca.pem": "x509ca", "-server.pem": "pubkey", ".pub": "pubkey", ".pem": "x509", ".key": "private"}


class StrongSwan:
    """A charon in a namespace of its own, configured by swanctl as the profile's steps say."""

    def __init__(self, bed: VpnBed, charon: Charon, folder: Path) -> None:
        self.bed, self.charon, self.folder = bed, charon, folder
        self.out = folder / "out"

    def profile(
        self, user: str, *options: str, password: str | None = None, method: str = "eap-gtc", stdin: str = ""
    ) -> None:
        """Create the profile, put its files where swanctl reads them, and load them."""
        for folder in ("conf.d", *FOLDERS.values()):
            (self.folder / folder).mkdir(exist_ok=True, parents=True)
        to = (
            "--server",
            SERVER,
            "--name",
            "vpn",
            "--out",
            str(self.out),
            "--force",
            "--config",
            str(self.bed.settings),
        )
        result = CliRunner().invoke(app, ["profile", "create", user, "--for", "strongswan", *to, *options], input=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        for file in self.out.iterdir():
            ending = next((ending for ending in FOLDERS if file.name.endswith(ending)), None)
            if file.suffix != ".sswan":
                target = "conf.d" if ending is None else FOLDERS[ending]
                (self.folder / target / file.name).write_bytes(file.read_bytes())
        conf = self.folder / "conf.d" / f"vpn-{user}.conf"
        conf.write_text(conf.read_text().replace("auth = eap-gtc", f"auth = {method}"))
        secret = (
            ""
            if password is None
            else f'secrets {{\n  eap-{user} {{\n    id = "{user}"\n    secret = "{password}"\n  }}\n}}\n'
        )
        (self.folder / "conf.d" / f"vpn-{user}-secret.conf").write_text(secret)
        (self.folder / "swanctl.conf").write_text("include conf.d/*.conf\n")
        self.swanctl("--load-all", "--noprompt", "--clear")

    def swanctl(self, *arguments: str) -> str:
        """What swanctl prints."""
        uri = f"unix://{self.charon.vici_path}"
        return self.charon.namespace.run("env", f"SWANCTL_DIR={self.folder}", "swanctl", *arguments, "--uri", uri)

    @contextlib.contextmanager
    def connected(self, user: str) -> Iterator[None]:
        """Its connection is up. CommandFailedError: it is refused."""
        name = f"vpn-{user}"
        self.swanctl("--initiate", "--child", name, "--timeout", "60")
        try:
            yield
        finally:
            with contextlib.suppress(CommandFailedError):
                self.swanctl("--terminate", "--ike", name, "--timeout", "5")


@pytest.fixture(scope="module")
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed(certificate=True) as made:
        made.write_settings()
        made.start()
        yield made
        assert made.stop() == 0


@pytest.fixture(scope="module")
def swan(bed: VpnBed) -> Iterator[StrongSwan]:
    namespace = bed.namespace_of("swan")
    plain = charon_settings()["charon"]
    assert not isinstance(plain, str)
    charon = bed.lab.charon(namespace, charon_settings(extra={"charon": {"load": f"{plain['load']} eap-gtc"}}))
    charon.start()
    try:
        yield StrongSwan(bed, charon, bed.folder / "swanctl")
    finally:
        charon.stop()


def user(bed: VpnBed, *arguments: str, stdin: str = "") -> None:
    """Run `warren vpn user`."""
    result = CliRunner().invoke(app, ["user", *arguments, "--users", str(bed.folder / "users.json")], input=stdin)
    assert result.exit_code == 0, (result.output, result.exception)


def audited(bed: VpnBed) -> list[tuple[str, str, str, str]]:
    """User, method, result and reason of each login."""
    lines = map(json.loads, (bed.folder / "logins.jsonl").read_text().splitlines())
    return [(line["user"], line["method"], line["result"], line["reason"]) for line in lines]


def ping(swan: StrongSwan, addresses: Sequence[str]) -> bool:
    """Whether packets from the virtual IPv4 address are answered by the server inside."""
    own = next(address for address in addresses if "." in address)
    out = swan.charon.namespace.run(*ping_command(INSIDE[4], own))
    return " 3 received" in out


def carries(swan: StrongSwan, bed: VpnBed, name: str, login: str) -> None:
    """The session is there under the user's name and carries packets."""
    with swan.connected(name):
        (session,) = bed.wait_for("the session is there", lambda it: it.connected == 1).sessions
        assert (session.user, session.login) == (name, login)
        assert ping(swan, session.addresses)
    bed.wait_for("nobody is connected", lambda it: it.connected == 0)
    assert (name, login, "accepted", "") in audited(bed)


@pytest.mark.parametrize("method", ["eap-gtc", "eap-mschapv2"])
def test_strongswan_logs_in_by_password(bed: VpnBed, swan: StrongSwan, method: str) -> None:
    """The server proves itself by its certificate; charon declines our EAP-GTC where its connection says MSCHAPv2."""
    name = f"user-{method}"
    options = ["--mschapv2"] if method == "eap-mschapv2" else []
    user(bed, "add", name, *options, stdin=PASSWORD)
    reloaded(bed)
    swan.profile(name, password="wrong " + PASSWORD, method=method)
    with pytest.raises(CommandFailedError), swan.connected(name):
        pass
    assert audited(bed)[-1] == (name, method, "refused", "invalid user name or password")
    assert bed.status().refusals["authentication"] >= 1
    swan.profile(name, password=PASSWORD, method=method)
    carries(swan, bed, name, method)
    user(bed, "disable", name)
    reloaded(bed)
    with pytest.raises(CommandFailedError), swan.connected(name):
        pass


def test_strongswan_logs_in_by_raw_key(bed: VpnBed, swan: StrongSwan) -> None:
    """Both sides by raw keys."""
    key = Ed25519PrivateKey.generate()
    user(bed, "add", "carol", "--public-key", public_text(key.public_key()))
    reloaded(bed)
    (bed.folder / "carol.key").write_bytes(private_key_pem(key))
    swan.profile("carol", "--key", str(bed.folder / "carol.key"), "--with-key")
    carries(swan, bed, "carol", "raw-key")
    with swan.connected("carol"):
        bed.wait_for("the session is there", lambda it: it.connected == 1)
        swan.swanctl("--rekey", "--child", "vpn-carol")  # with a key exchange of its own, by the profile's proposal
        (session,) = bed.wait_for("new keys", lambda it: any("ecp256" in one.esp for one in it.sessions)).sessions
        assert ping(swan, session.addresses)


def test_a_strongswan_that_another_device_replaces_learns_of_it(bed: VpnBed, swan: StrongSwan) -> None:
    """By a plain DELETE, at once; before, it would have sent into the void until its own DPD, which is off by default."""
    key = bed.keys["erin"] = Ed25519PrivateKey.generate()
    user(bed, "add", "erin", "--public-key", public_text(key.public_key()))
    reloaded(bed)
    (bed.folder / "erin.key").write_bytes(private_key_pem(key))
    swan.profile("erin", "--key", str(bed.folder / "erin.key"), "--with-key")
    with swan.connected("erin"):
        bed.wait_for("the session is there", lambda it: it.connected == 1)
        with bed.client("erin", place="elsewhere"):
            wait_until(lambda: "vpn-erin" not in swan.swanctl("--list-sas"), "charon has no SA any more", LIMIT_SECONDS)
            (session,) = bed.status().sessions
            assert session.endpoint.startswith(bed.address_of("elsewhere"))
    bed.wait_for("nobody is connected", lambda it: it.connected == 0)


def test_strongswan_logs_in_by_certificate_until_the_user_is_removed(bed: VpnBed, swan: StrongSwan) -> None:
    """By a certificate of the server's CA; another certificate of it does not name a user."""
    out = bed.folder / "dave"
    options = ("--ca", str(bed.folder / "ca.crt"), "--ca-key", str(bed.folder / "ca.key"), "--out", str(out))
    user(bed, "add", "dave", "--certificate", "dave")
    user(bed, "certificate", "dave", *options)
    reloaded(bed)
    swan.profile(
        "dave",
        "--certificate",
        str(out / "dave.crt"),
        "--key",
        str(out / "dave.key"),
        "--with-key",
        stdin="passphrase\n",
    )
    carries(swan, bed, "dave", "certificate")
    with swan.connected("dave"):
        user(bed, "remove", "dave", "--yes")
        bed.wait_for("the session of a removed user ends by itself", lambda it: it.connected == 0)
    with pytest.raises(CommandFailedError), swan.connected("dave"):
        pass
    assert audited(bed)[-1][2] == "refused"


def reloaded(bed: VpnBed) -> None:
    """Let the server read the users now; it does so by itself within seconds."""
    bed.ask(ReloadRequest(), Reloaded)
