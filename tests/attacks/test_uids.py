"""F1: a process of the shared uid `nobody` became an administrator of the fleet, through PostgreSQL's /proc/<pid>/root.

Attackers are processes of `nobody` and of each part of `warren up`: they reach no other part's memory, files or keys.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from warren_stack.errors import LocalError
from warren_stack.run_as import NOBODY, ProcessUser, run_as
from warren_stack.users import FIRST_UID, PARTS, part_users
from warren_testkit.up import Up, running_up, stack_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="without root every part has the user who starts it")


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with stack_folder() as folder:
        yield folder / "data"


@pytest.fixture(scope="module")
def up(data: Path) -> Iterator[Up]:
    with running_up(data) as up:
        yield up


@pytest.fixture(scope="module")
def parts(up: Up) -> dict[str, psutil.Process]:
    """The process of each part."""
    found = up.parts()
    assert set(found) == set(PARTS)
    return found


def test_every_part_has_a_uid_of_its_own(parts: dict[str, psutil.Process]) -> None:
    uids = {name: part.uids() for name, part in parts.items()}
    assert all(len({uid.real, uid.effective, uid.saved}) == 1 for uid in uids.values())
    assert len({uid.real for uid in uids.values()}) == len(PARTS)
    assert not {0, NOBODY.uid} & {uid.real for uid in uids.values()}
    assert not [name for name, part in parts.items() if 0 in part.gids()]
    status = {name: Path(f"/proc/{part.pid}/status").read_text() for name, part in parts.items()}
    assert not [name for name, text in status.items() if "CapEff:\t0000000000000000" not in text]


def test_no_part_leaves_a_core_file_and_no_service_can_be_read(parts: dict[str, psutil.Process]) -> None:
    limits = {name: Path(f"/proc/{part.pid}/limits").read_text() for name, part in parts.items()}
    assert not [name for name, text in limits.items() if "Max core file size        0                    0" not in text]
    # The kernel gives the files of a process that is not dumpable to root (proc(5)).
    owners = {name: Path(f"/proc/{part.pid}/environ").stat().st_uid for name, part in parts.items()}
    assert {name for name, owner in owners.items() if owner != 0} == {"nats", "postgres"}


def attempt(user: ProcessUser, script: str) -> str:
    """What a process of this user prints for an attack."""
    done = subprocess.run(
        run_as(user, ["sh"]), input=script, capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )
    return done.stdout.strip()


@pytest.mark.parametrize("attacker", ["nobody", *PARTS])
def test_a_process_of_another_uid_reads_nothing_of_a_part(
    up: Up, parts: dict[str, psutil.Process], data: Path, attacker: str
) -> None:
    user = NOBODY if attacker == "nobody" else ProcessUser(parts[attacker].uids().real, parts[attacker].gids().real)
    others = {name: part.pid for name, part in parts.items() if name != attacker}
    script = "\n".join(
        f"ls /proc/{pid}/root/ && echo {name} root; head -c1 /proc/{pid}/mem && echo {name} memory;"
        f"cat /proc/{pid}/environ && echo {name} environment; ls -l /proc/{pid}/fd/ && echo {name} files;"
        f"kill -HUP {pid} && echo {name} signal; kill -9 {pid} && echo {name} killed"
        for name, pid in others.items()
    )
    assert attempt(user, f"exec 2>/dev/null\n{script}") == ""
    assert all(part.is_running() for part in parts.values())
    files = [path for path in data.rglob("*") if path.is_file()]
    opened = "\n".join(f"head -c1 '{path}' >/dev/null && echo '{path}'" for path in files)
    assert attempt(user, f"exec 2>/dev/null\n{opened}") == ""  # DATA is closed to all of them


def test_a_part_sees_its_own_keys_only(parts: dict[str, psutil.Process], data: Path) -> None:
    """Below what the part's own mounts show it: its share, and no other's."""
    seeds = {path.name for path in (data / "keys").glob("*.seed")}
    expected = {
        "streams": {"streams.seed"}, "callout": {"callout.seed", "issuer.seed"}, "policy": {"policy.seed", "policy-signing.seed"},
        "registry": {"registry.seed", "registry-signing.seed", "root.seed"}, "metrics": {"metrics.seed"}, "api": {"api.seed"},
        "nats": set(), "postgres": set(),
    }  # fmt: skip
    for name, part in parts.items():
        seen = Path(f"/proc/{part.pid}/root{data}")
        found = {path.name for path in seen.rglob("*") if path.name in seeds}
        assert found == expected[name], name
        owners = {path.stat().st_uid for path in seen.rglob("*.seed")}
        assert owners <= {part.uids().real}


def test_the_machine_has_no_more_users_than_before(up: Up) -> None:
    assert "warren-postgres" not in Path("/etc/passwd").read_text()


def test_a_uid_that_belongs_to_somebody_is_refused(tmp_path: Path) -> None:
    """Where a user of the machine has a uid of the range, its processes would be as good as the part's."""
    passwd = tmp_path / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + f"somebody:x:{FIRST_UID + 2}:100::/:/bin/sh\n")
    program = (
        f"from warren_stack.users import part_users; from pathlib import Path; part_users(Path({str(tmp_path)!r}))"
    )
    script = f'mount --bind {passwd} /etc/passwd && exec {sys.executable} -c "{program}"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{FIRST_UID + 2} (somebody)" in done.stderr
    assert "systemd-sysusers" in done.stderr


def test_the_users_of_the_machine_are_used_where_they_exist(tmp_path: Path) -> None:
    script = "\n".join(
        [
            f"cp /etc/passwd /etc/group {tmp_path}",
            *(f"echo warren-{part}:x:{900 + number}:{900 + number}::/: >> {tmp_path}/passwd" for number, part in enumerate(PARTS)),
            f"echo warren:x:890: >> {tmp_path}/group",
            f"mount --bind {tmp_path}/passwd /etc/passwd && mount --bind {tmp_path}/group /etc/group",
            f'exec {sys.executable} -c "from warren_stack.users import part_users; from pathlib import Path; '
            f"users = part_users(Path({str(tmp_path)!r})); print(users['postgres'])\"",
        ]
    )  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(ProcessUser(901, 901, (890,)))


def test_a_user_that_is_missing_among_others_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pwd

    real = pwd.getpwnam

    def only_one(name: str) -> pwd.struct_passwd:
        return real("root") if name == "warren-nats" else real(name)

    monkeypatch.setattr(pwd, "getpwnam", only_one)
    with pytest.raises(LocalError, match="warren-postgres, warren-streams"):
        part_users(tmp_path)


def test_signals_reach_parts_when_the_supervisor_dies(up: Up, parts: dict[str, psutil.Process]) -> None:
    """The last test of this stack: it kills it. The kernel ends parts of other uids, too."""
    up.process.send_signal(signal.SIGKILL)
    up.process.wait()
    _, alive = psutil.wait_procs(list(parts.values()), timeout=60)
    assert alive == []
