"""What separates the containers of deploy/compose: users, capabilities, shares and networks. Before the tests of `test_compose`, which
stop it."""

import shlex
import stat
from pathlib import Path
from typing import Any

import pytest

from warren_stack.deploy.users import UIDS

pytestmark = [pytest.mark.compose, pytest.mark.root, pytest.mark.timeout(600)]

SERVICES = ("postgres", "nats", "callout", "streams", "registry", "policy", "metrics", "api")
KEEPER = "certificates"  # without a network, and with the CA
STEPS = ("keys", "database")
GIVERS = ("keys", KEEPER)  # root, who may give files to other users and nothing else
Stack = Any  # of conftest.py


@pytest.mark.parametrize("service", [*SERVICES, *STEPS, KEEPER])
def test_a_container_is_confined(stack: Stack, service: str) -> None:
    found = stack.container(service)
    host = found["HostConfig"]
    own = UIDS.get(service, 0)
    assert found["Config"]["User"] == f"{own}:{own}"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in host["CapAdd"] or ()] == (["CHOWN"] if service in GIVERS else [])
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == ("no" if service in STEPS else "unless-stopped")


def test_the_container_with_the_ca_has_no_network_and_no_other_key(stack: Stack) -> None:
    found = stack.container(KEEPER)
    assert found["HostConfig"]["NetworkMode"] == "none"
    assert (found["State"]["Running"], found["RestartCount"]) == (True, 0)
    names = {mount.get("Name") for mount in found["Mounts"]}
    assert "warren_authority" in names
    assert "warren_deployment" not in names


def test_each_container_has_a_uid_of_its_own_and_the_files_of_its_share(stack: Stack) -> None:
    for service in UIDS.keys() - {"grafana"}:
        uid = UIDS[service]
        folder = Path(stack.engine.inspect(f"warren_{service}-share", "volume")["Mountpoint"])
        assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (0, 0o750)
        assert {(it.stat().st_uid, stat.S_IMODE(it.stat().st_mode)) for it in folder.iterdir()} == {(uid, 0o600)}
    for service, volume in (("postgres", "postgres-data"), ("nats", "nats-data"), ("grafana", "grafana-data")):
        assert Path(stack.engine.inspect(f"warren_{volume}", "volume")["Mountpoint"]).stat().st_uid == UIDS[service]
    assert Path(stack.engine.inspect("warren_deployment", "volume")["Mountpoint"]).stat().st_uid == 0
    for service in SERVICES:
        process = Path(f"/proc/{stack.container(service)['State']['Pid']}/status").read_text()
        assert f"\nUid:\t{UIDS[service]}\t" in process


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_sees_its_own_share_and_may_not_write_it(stack: Stack, service: str) -> None:
    mounts = {mount["Destination"]: mount for mount in stack.container(service)["Mounts"]}
    assert mounts["/run/warren"]["Name"] == f"warren_{service}-share"
    assert not mounts["/run/warren"]["RW"]
    assert "warren_deployment" not in {mount.get("Name") for mount in mounts.values()}


def test_the_gateway_has_no_way_to_the_database(stack: Stack) -> None:
    assert stack.container("api")["NetworkSettings"]["Networks"].keys() == {"warren_bus", "warren_operators"}
    address = stack.container("postgres")["NetworkSettings"]["Networks"]["warren_database"]["IPAddress"]
    attempt = f"import socket as s; print(s.socket().connect_ex(('{address}', 5432)))"
    limited = ("timeout", "3", "/opt/warren/bin/python", "-c", attempt)
    assert stack.engine.execute("api", "sh", "-c", f"{shlex.join(limited)} || true").strip() != "0"
    assert stack.engine.execute("registry", *limited).strip() == "0"


def test_the_image_holds_no_tools_to_build_with(stack: Stack) -> None:
    tools = (
        "for tool in pip pip3 cc gcc make git; do command -v $tool; done; /opt/warren/bin/python -m pip --version; true"
    )
    assert stack.engine.execute("api", "sh", "-c", tools) == ""
