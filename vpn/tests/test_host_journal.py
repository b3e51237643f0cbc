"""The journal on the disk, and DNS by a plain file, resolvconf and systemd-resolved."""

import stat
from ipaddress import ip_address
from pathlib import Path

import pytest

from warren_vpn.host import dns
from warren_vpn.host.changes import LinkChange, Original, ResolvconfChange, ResolvConfFileChange, ResolvedChange
from warren_vpn.host.errors import ClientRunningError, HostError, JournalError
from warren_vpn.host.host import Host
from warren_vpn.host.journal import Journal, JournalContent, boot_id, with_changes, without
from warren_vpn.host.resolv_conf import DnsFacts, build_resolv_conf, choose_mode, domain_arguments

SERVERS = (ip_address("10.50.0.1"), ip_address("fd50::1"))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "state") as journal:
        record = JournalContent(
            boot_id=boot_id(), profile="office", servers={"vpn.example": SERVERS}, changes=(LinkChange(device="t0"),)
        )
        journal.write(record)
        assert journal.read() == record
        assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
        journal.clear()
        assert journal.read() is None


def test_only_one_client_has_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(ClientRunningError, match="warren vpn down"):
        Journal(tmp_path).lock()
    with Journal(tmp_path):
        pass


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(JournalError, match="chmod 700"):
        Journal(tmp_path).lock()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 2}', b'{"changes": [{"kind": "exec"}]}', b"x" * (1 << 21)]
)
def test_a_damaged_journal_is_refused_with_what_to_check(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    journal.path.write_bytes(content)
    with pytest.raises(JournalError, match="ip rule"):
        journal.read()


def test_a_newer_change_replaces_the_one_of_its_place() -> None:
    record = JournalContent(boot_id="b", profile="p")
    first = ResolvedChange(device="t0", servers=SERVERS)
    record = with_changes(record, [LinkChange(device="t0"), first])
    record = with_changes(record, [first.model_copy(update={"search": ("a.example",)})])
    assert [change.kind for change in record.changes] == ["link", "dns-resolved"]
    assert without(record, [first]).changes == (LinkChange(device="t0"),)


# ---- the plain file


def file_change(path: Path) -> ResolvConfFileChange:
    return ResolvConfFileChange(
        path=str(path), original=dns.read_original(path), written=(build_resolv_conf(SERVERS, ["a.example"]),)
    )


async def test_a_file_is_replaced_and_put_back_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    path.chmod(0o640)
    change = file_change(path)
    await dns.apply_dns(change)
    assert path.read_text().splitlines()[1:] == ["nameserver 10.50.0.1", "nameserver fd50::1", "search a.example"]
    assert await dns.undo_dns(change) == ""
    assert path.read_text() == "nameserver 192.0.2.53\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert await dns.undo_dns(change) == ""  # again, as after a second kill
    assert [one.name for one in tmp_path.iterdir()] == ["resolv.conf"]


async def test_a_symbolic_link_is_put_back_as_one(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.symlink_to("../run/stub.conf")
    change = file_change(path)
    await dns.apply_dns(change)
    assert not path.is_symlink()
    await dns.undo_dns(change)
    assert path.readlink() == Path("../run/stub.conf")


async def test_no_file_is_put_back_as_none(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    change = file_change(path)
    await dns.apply_dns(change)
    assert path.exists()
    await dns.undo_dns(change)
    assert not path.exists()


async def test_a_file_that_another_program_has_changed_stays(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    change = file_change(path)
    await dns.apply_dns(change)
    path.write_text("nameserver 192.0.2.54\n")
    assert "another program has changed it" in await dns.undo_dns(change)
    assert path.read_text() == "nameserver 192.0.2.54\n"


async def test_a_second_content_keeps_the_first_original(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    change = file_change(path)
    await dns.apply_dns(change)
    second = change.rewritten(build_resolv_conf(SERVERS[:1], ()))
    assert await dns.undo_dns(second) == ""  # killed between the journal and the file
    assert path.read_text() == "nameserver 192.0.2.53\n"


def test_a_folder_at_the_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="nothing was changed"):
        dns.read_original(tmp_path)


# ---- other programs


@pytest.mark.parametrize(
    ("facts", "mode"),
    [
        (DnsFacts(True, False, "nameserver 127.0.0.53\n"), "resolved"),
        (DnsFacts(True, True, "nameserver 192.0.2.1\n"), "resolvconf"),  # systemd-resolved runs, but nothing asks it
        (DnsFacts(False, True, "nameserver 192.0.2.1\n"), "resolvconf"),
        (DnsFacts(False, False, "nameserver 127.0.0.53\n"), "file"),
        (DnsFacts(False, False, ""), "file"),
    ],
)
def test_the_program_that_keeps_the_file_is_asked(facts: DnsFacts, mode: str) -> None:
    assert choose_mode(facts) == mode


def test_every_name_or_only_the_search_domains() -> None:
    assert domain_arguments(["a.example"], everything=True) == ["a.example", "~."]
    assert domain_arguments(["a.example"], everything=False) == ["a.example"]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that note how they are called, before the real ones in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    record = tmp_path / "calls"
    record.touch()
    for name in ("resolvectl", "resolvconf"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\n{{ echo "{name} $*"; [ "$2" != wrong ] && cat; }} >> {record}\n[ "$2" != wrong ]\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return record


async def test_resolvectl_is_called_as_its_manual_says(calls: Path) -> None:
    change = ResolvedChange(device="t0", servers=SERVERS, search=("a.example",), everything=True)
    await dns.apply_dns(change)
    await dns.undo_dns(change)
    assert calls.read_text().splitlines() == [
        "resolvectl dns t0 10.50.0.1 fd50::1", "resolvectl domain t0 a.example ~.", "resolvectl default-route t0 yes",
        "resolvectl revert t0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "everything", "options"),
    [("openresolv 3.12.0", True, "-m 0 -x "), ("openresolv 3.12.0", False, "-m 0 "), ("", True, "")],
)
async def test_resolvconf_is_given_a_record_of_the_device(
    calls: Path, version: str, everything: bool, options: str
) -> None:
    """openresolv puts it first; Debian's own resolvconf goes by its name, and refuses --version."""
    program = calls.parent / "bin" / "resolvconf"
    answer = f'[ "$1" = --version ] && echo {version} && exit 0\n' if version else '[ "$1" = --version ] && exit 99\n'
    program.write_text(program.read_text().replace("#!/bin/sh\n", "#!/bin/sh\n" + answer))
    change = ResolvconfChange(device="t0", servers=SERVERS, search=("a.example",), everything=everything)
    await dns.apply_dns(change)
    await dns.undo_dns(change)
    assert calls.read_text().splitlines() == [
        f"resolvconf {options}-a tun.t0", "nameserver 10.50.0.1", "nameserver fd50::1", "search a.example",
        "resolvconf -f -d tun.t0",
    ]  # fmt: skip


async def test_a_refusal_is_reported_with_the_program(calls: Path) -> None:
    with pytest.raises(HostError, match="resolvectl"):
        await dns.apply_dns(ResolvedChange(device="wrong", servers=SERVERS))
    assert "dns wrong" in calls.read_text()


async def test_after_a_restart_of_the_kernel_only_files_are_put_back(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    change = file_change(path)
    await dns.apply_dns(change)
    with Journal(tmp_path / "state") as journal:
        journal.write(JournalContent(boot_id="another run", profile="p", changes=(LinkChange(device="lo"), change)))
        host = Host(journal)
        assert await host.restore(kill_switch=True) == []  # deleting the link of this name would be refused
        assert host.record.changes == ()
        assert not journal.path.exists()
    assert path.read_text() == "nameserver 192.0.2.53\n"


def test_an_original_is_read(tmp_path: Path) -> None:
    assert dns.read_original(tmp_path / "missing") == Original()
