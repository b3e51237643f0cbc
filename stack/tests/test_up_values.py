"""`warren up` before anything starts: settings, ports, the lock, messages."""

import json
import os
import socket
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from warren_cli.main import app
from warren_contracts.commands import Health
from warren_stack.errors import AlreadyRunningError, LocalError
from warren_stack.folders import DataFolder
from warren_stack.lock import exclusive, read_state, write_state
from warren_stack.ports import choose_port, url
from warren_stack.readiness import waits_for_epoch
from warren_stack.services import READERS, ROLES, SERVICES, ServiceEnvironment, service_environment
from warren_stack.stack import StackInfo
from warren_stack.up import info_object, info_text

AROUND = ServiceEnvironment(
    nats_url="nats://127.0.0.1:4222",
    keys=Path("/data/keys"),
    secrets=Path("/data/secrets"),
    postgres_dsns={role: f"postgresql://{role}@/warren?host=/run/pg" for role in (*ROLES, *READERS)},
    policy_public_key="cHVibGlj",
    root_public_key="cm9vdA==",
    caller_keys={"api": "YXBp"},
    http_host="127.0.0.1",
    http_port=8400,
    metrics_host="127.0.0.1",
    metrics_port=9400,
)


@pytest.mark.parametrize("other", ["--nats-port", "--metrics-port"])
def test_up_refuses_one_port_for_two_before_anything_is_made(tmp_path: Path, other: str) -> None:
    data = tmp_path / "data"
    result = CliRunner().invoke(app, ["up", "--data", str(data), "--http-port", "21000", other, "21000"])
    assert result.exit_code == 1
    assert result.stderr == f"warren up: --http-port and {other} are both 21000: choose another port for one of them\n"
    assert not data.exists()


@pytest.mark.parametrize("data", ["", " "])
def test_up_refuses_an_empty_data_folder(data: str) -> None:
    result = CliRunner().invoke(app, ["up", "--data", data])
    assert result.exit_code == 1
    assert "names no folder" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


def test_services_get_their_own_keys_and_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_SECRET", "x")
    environments = {service.name: service_environment(service, AROUND) for service in SERVICES}
    assert environments["api"]["WARREN_NKEY_FILE"] == "/data/keys/api.seed"
    assert "WARREN_POSTGRES_DSN" not in environments["api"]
    assert environments["policy"]["PGPASSFILE"] == "/data/secrets/pg-policy.pass"
    assert environments["callout"]["WARREN_POSTGRES_DSN"].startswith("postgresql://callout@")
    assert [name for name, env in environments.items() if "WARREN_ROOT_KEY_FILE" in env] == ["registry"]
    assert [name for name, env in environments.items() if "WARREN_ISSUER_KEY_FILE" in env] == ["callout"]
    assert all("SOMEBODYS_SECRET" not in env for env in environments.values())


def test_services_store_compiled_modules_where_the_stack_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/build/pycache")
    environments = [service_environment(service, AROUND) for service in SERVICES]
    assert {env["PYTHONPYCACHEPREFIX"] for env in environments} == {"/build/pycache"}


def test_choose_port_names_a_taken_port_and_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"port {port} on 127\.0\.0\.1 cannot be used: .*--nats-port"):
            choose_port("127.0.0.1", port, "--nats-port")
    assert choose_port("127.0.0.1", 0, "--nats-port") > 0


def test_choose_port_refuses_an_address_of_another_machine() -> None:
    with pytest.raises(LocalError, match=r"192\.0\.2\.77 cannot be used"):
        choose_port("192.0.2.77", 0, "--bind")


def test_url_brackets_ipv6() -> None:
    assert url("http", "::1", 8400) == "http://[::1]:8400"


def test_a_second_up_on_the_same_data_is_refused_by_name(data: DataFolder) -> None:
    with exclusive(data):
        write_state(data, url="http://127.0.0.1:8400", runtime="/tmp/warren-none")
        with (
            pytest.raises(AlreadyRunningError, match=rf"process {os.getpid()}, http://127\.0\.0\.1:8400"),
            exclusive(data),
        ):
            pass
    assert read_state(data) == {}
    with exclusive(data):
        pass


def test_a_killed_up_leaves_no_runtime_folder_after_the_next(data: DataFolder, tmp_path: Path) -> None:
    keep = tmp_path / "warren-elsewhere"  # not in the temporary folder: never removed, whatever the file says
    keep.mkdir()
    data.state.write_text(json.dumps({"pid": 1, "runtime": str(keep)}))
    with exclusive(data):
        pass
    assert keep.is_dir()


def test_info_names_the_token_file_and_never_the_token(data: DataFolder) -> None:
    info = StackInfo(
        "http://127.0.0.1:1", "nats://127.0.0.1:2", "http://127.0.0.1:3/metrics", data.token, data.path, data.log, 1.25
    )
    assert info_object(info)["took_ms"] == 1250
    assert str(data.token) in info_text(info)


def test_a_restored_stack_stays_up_and_names_the_remedy(data: DataFolder) -> None:
    info = StackInfo("u", "n", "m", data.token, data.path, data.log, 1.25, restored=True)
    assert (info_object(info)["ready"], info_object(info)["restored"]) == (False, True)
    assert "`warren epoch advance`" in info_text(info)
    assert "is ready" not in info_text(info)


@pytest.mark.parametrize(
    ("away", "waits"),
    [
        (["policy", "policy/epoch"], True),
        (["policy", "policy/epoch", "registry", "registry/epoch"], True),
        (["policy", "policy/epoch", "registry", "registry/relay"], False),
        (["policy", "policy/epoch", "metrics"], False),
        (["policy", "registry", "registry/epoch"], False),
        (["policy", "registry"], False),
        ([], False),
    ],
)
def test_a_start_ends_when_nothing_is_missing_but_an_operators_word(away: list[str], waits: bool) -> None:
    names = ["nats", "policy", "policy/epoch", "registry", "registry/epoch", "registry/relay", "metrics"]
    dependencies = {name: name not in away for name in names}
    health = Health(service="api", ready=not away, dependencies=dependencies)
    assert waits_for_epoch(httpx.Response(503, content=health.model_dump_json())) is waits
    assert not waits_for_epoch(httpx.Response(502, content="Bad Gateway"))


def test_up_help_has_examples() -> None:
    result = CliRunner().invoke(app, ["up", "--help"])
    assert result.exit_code == 0
    assert "warren up --data /srv/warren" in result.output


def test_up_says_one_line_when_a_port_is_taken(data: DataFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["up", "--data", str(data.path), "--http-port", str(port)])
    assert result.exit_code == 1
    assert result.stderr.startswith("warren up: port")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "/dev/null"), "/dev/null: the data folder cannot be made or written"),
        (("--data", "/proc/foo"), "/proc/foo: the data folder cannot be made or written"),
        (("--bind", "192.0.2.99"), "'192.0.2.99' is not an address of this machine"),
        (("--bind", "no host"), "'no host' is not an address of this machine"),
        (("--log-level", "loud"), "is not one of 'debug', 'info', 'warning', 'error'"),
        (("--http-port", "99999"), "must be less than or equal to 65535"),
    ],
)
def test_a_wrong_value_is_one_line_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    given = arguments if "--data" in arguments else ("--data", str(tmp_path / "data"), *arguments)
    result = CliRunner().invoke(app, ["up", *given])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert said in result.stderr
