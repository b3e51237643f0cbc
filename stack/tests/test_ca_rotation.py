"""The rotation of the CA by overlap: what is trusted, what signs and what is served, after each step and after a crash in each."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from warren_stack.errors import LocalError
from warren_stack.folders import DataFolder
from warren_stack.tls import rotation as module
from warren_stack.tls.check import handshake_error
from warren_stack.tls.commands import app
from warren_stack.tls.folder import ListenerCertificate, TlsFolder
from warren_stack.tls.keeper import TRUST, CertificateKeeper, OwnCertificate
from warren_stack.tls.rotation import FOLLOW, SETTLE, CaRotation, RotationPhase
from warren_trust.certificates import certificate_pem, fingerprint, issue, make_authority

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
BUS = ListenerCertificate("nats", ("127.0.0.1",))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> TlsFolder:
    return TlsFolder(tmp_path / "tls")


@pytest.fixture
def keeper(folder: TlsFolder, clock: Clock) -> CertificateKeeper:
    made = CertificateKeeper(folder, [BUS], clock, print)
    made.prepare()
    return made


def pinned(folder: TlsFolder) -> list[bytes]:
    return [fingerprint(it) for it in x509.load_pem_x509_certificates(folder.trusted.read_bytes())]


def accepted_by(folder: TlsFolder, authority: bytes) -> bool:
    served = folder.certificate("nats").read_bytes(), folder.key("nats").read_bytes()
    return handshake_error(*served, authority, ["127.0.0.1"]) == ""


def test_a_client_that_follows_trusts_the_listener_at_each_step(
    folder: TlsFolder, keeper: CertificateKeeper, clock: Clock
) -> None:
    former = folder.trusted.read_bytes()
    rotation = CaRotation(folder)
    assert rotation.status().phase is RotationPhase.STEADY
    rotation.begin(clock.now, DAY)
    both = folder.trusted.read_bytes()
    assert folder.services_trust.read_bytes() == both
    assert keeper.check() == {TRUST}
    assert accepted_by(folder, former)
    assert keeper.check() == frozenset()
    clock.now += DAY
    assert keeper.check() == {"nats", TRUST}
    assert rotation.status().phase is RotationPhase.SWITCHED
    assert accepted_by(folder, both)
    assert not accepted_by(folder, former)
    assert pinned(folder) == list(reversed([fingerprint(it) for it in x509.load_pem_x509_certificates(both)]))
    clock.now += SETTLE
    assert keeper.check() == {TRUST}
    assert rotation.status().phase is RotationPhase.STEADY
    assert accepted_by(folder, folder.trusted.read_bytes())
    assert former not in folder.trusted.read_bytes()
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "ca.crt", "ca.key", "nats", "rotation.lock", "trust", "trusted.pem",
    ]  # fmt: skip


def test_the_end_of_the_overlap_waits_until_hosts_have_followed(folder: TlsFolder, keeper: CertificateKeeper) -> None:
    rotation = CaRotation(folder)
    rotation.begin(NOW, DAY)
    early = rotation.finish(NOW + timedelta(seconds=1)).times
    assert early is not None
    assert early.switch_at == NOW + FOLLOW
    rotation.finish(NOW + DAY * 2)  # never later than before
    assert rotation.status().times == early


def test_one_rotation_at_a_time(folder: TlsFolder, keeper: CertificateKeeper) -> None:
    rotation = CaRotation(folder)
    with pytest.raises(LocalError, match="no rotation is in progress"):
        rotation.finish(NOW)
    rotation.begin(NOW, DAY)
    with pytest.raises(LocalError, match="in progress \\(announced\\)"):
        rotation.begin(NOW, DAY)


@pytest.mark.parametrize("call", range(5))
def test_a_crash_within_the_switch_is_completed_by_the_next_start(
    folder: TlsFolder, keeper: CertificateKeeper, clock: Clock, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    CaRotation(folder).begin(clock.now, FOLLOW)
    clock.now += FOLLOW
    left = call

    def crashing(real: object) -> object:
        def step(*arguments: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return real(*arguments, **options)  # type: ignore[operator]

        return step

    with monkeypatch.context() as patched:
        for name in ("write_atomically", "rename_durably"):
            patched.setattr(module, name, crashing(getattr(module, name)))
        try:
            keeper.check()
        except KeyboardInterrupt:
            assert call < 3
        else:
            assert call >= 3  # a copy of the former certificate, and two renames
    CertificateKeeper(folder, [BUS], clock, print).prepare()
    assert accepted_by(folder, certificate_pem(folder.authority(clock.now).certificate))
    assert len(pinned(folder)) == 2
    clock.now += SETTLE
    CertificateKeeper(folder, [BUS], clock, print).prepare()
    assert pinned(folder) == [fingerprint(folder.authority(clock.now).certificate)]


def test_roots_of_the_operators_own_are_all_trusted_and_the_one_that_signs_first(
    folder: TlsFolder, clock: Clock, tmp_path: Path
) -> None:
    old, new = make_authority(NOW), make_authority(NOW)
    files = {name: tmp_path / name for name in ("chain", "key", "roots")}
    issued = issue(new, "own", ["bus.example.net"], NOW)
    files["chain"].write_bytes(issued.chain_pem)
    files["key"].write_bytes(issued.key_pem)
    files["roots"].write_bytes(old.pem + new.pem)
    own = OwnCertificate(files["chain"], files["key"], files["roots"], ("bus.example.net",))
    keeper = CertificateKeeper(folder, [BUS], clock, print, own)
    keeper.prepare()
    assert pinned(folder) == [fingerprint(new.certificate), fingerprint(old.certificate)]
    with pytest.raises(LocalError, match="CA of your own is replaced by --tls-ca"):
        CaRotation(folder).begin(NOW, DAY)


def test_the_command_shows_begins_and_ends_a_rotation(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.create()
    data.lock.touch()
    run = CliRunner().invoke
    assert "has no CA: start `warren up`" in run(app, ["show", "--data", str(data.path)]).output
    folder = TlsFolder(data.tls)
    CertificateKeeper(folder, [BUS], lambda: datetime.now(UTC), print).prepare()
    assert "must be 2m to 90d" in run(app, ["rotate", "--yes", "--overlap", "1m", "--data", str(data.path)]).output
    asked = run(app, ["rotate", "--data", str(data.path)])
    assert asked.exit_code == 2
    assert "add --yes" in asked.output
    begun = run(app, ["rotate", "--yes", "--json", "--data", str(data.path)])
    assert begun.exit_code == 0, begun.output
    assert '"phase": "announced"' in begun.output
    assert '"kept": false' in begun.output
    shown = run(app, ["show", "--data", str(data.path)]).output
    assert "both CAs are trusted, the former one signs; new certificates at" in shown
    assert "warren up` takes the steps when it runs" in shown
    ended = run(app, ["rotate", "--finish", "--yes", "--data", str(data.path)])
    assert ended.exit_code == 0, ended.output
    waiting = run(app, ["rotate", "--finish", "--wait", "--yes", "--data", str(data.path)])
    assert "does not run with this data folder" in waiting.output
    assert "PRIVATE" not in begun.output + shown + ended.output
