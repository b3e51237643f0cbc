"""What the verbs of `warren vpn` say: each mistake is one line with its remedy, before anything is asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from warren_vpn.commands import app

WIDTH = 58
"""Of a verb's line in `warren vpn --help`, on a terminal of 80 columns."""
WITHOUT_JSON = {"down", "restore", "load-kill-switch", "profile create", "key new", "key public"}
"""They print one line, or what to do with the files that they write."""


def run(*arguments: str, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    said = f"{result.output}{result.exception or ''}" if not isinstance(result.exception, SystemExit) else result.output
    return result.exit_code, said


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The folder of a server."""
    folder = tmp_path / "server"
    code, said = run("server", "init", str(folder), "--identity", "vpn.example.org", "--no-certificate")
    assert code == 0, said
    return folder


def verbs(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{path}{name} ")
        yield f"{path}{name}", command


def all_verbs() -> list[tuple[str, Any]]:
    return list(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize(("name", "command"), all_verbs(), ids=lambda it: it if isinstance(it, str) else "")
def test_the_line_of_a_verb_is_whole(name: str, command: Any) -> None:
    line = command.get_short_help_str(WIDTH)
    assert line
    assert not line.endswith("..."), name


@pytest.mark.parametrize(("name", "command"), all_verbs(), ids=lambda it: it if isinstance(it, str) else "")
def test_verbs_that_report_print_json(name: str, command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert hasattr(command, "commands") or ("--json" in options) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize(("name", "command"), all_verbs(), ids=lambda it: it if isinstance(it, str) else "")
def test_examples_can_be_pasted_from_a_terminal_of_80_columns(name: str, command: Any) -> None:
    lines = [line.strip() for line in (command.help or "").splitlines()]
    assert [
        line for line in lines if "warren vpn" in line and line.startswith(("warren", "pass")) and len(line) > 74
    ] == []


def test_a_host_without_server_and_client_is_one_line(tmp_path: Path) -> None:
    here = ("--config", str(tmp_path / "server.toml"), "--state", str(tmp_path / "state"))
    code, said = run("status", *here)
    assert code == 1
    assert said.startswith("warren vpn status: no client runs here")
    assert len(said.splitlines()) == 1


def test_a_missing_server_names_the_verb_that_makes_one(tmp_path: Path) -> None:
    code, said = run("server", "check", "--config", str(tmp_path / "server.toml"))
    assert code == 1
    assert "warren vpn server init --identity NAME" in said


def test_an_invalid_identity_is_refused_with_examples(tmp_path: Path) -> None:
    code, said = run("server", "init", str(tmp_path / "new"), "--identity", "my vpn")
    assert code == 1
    assert "invalid identity 'my vpn': a domain name or an address, as vpn.example.org" in said
    assert not (tmp_path / "new").exists()


def test_a_new_server_has_its_next_steps(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    _, said = run("server", "init", str(folder), "--identity", "vpn.example.org", "--no-certificate")
    assert f"1. warren vpn user add NAME --users {folder / 'users.json'}" in said
    assert f"3. warren vpn server run --config {folder / 'server.toml'}" in said


def test_a_user_that_exists_is_refused_before_its_password_is_asked_for(server: Path) -> None:
    users = ("--users", str(server / "users.json"))
    assert run("user", "add", "alice", *users, stdin="correct horse battery\n")[0] == 0
    code, said = run("user", "add", "alice", *users)
    assert code == 1
    assert "user 'alice' exists" in said


@pytest.mark.parametrize(
    ("address", "warning"),
    [("10.1.1.1", "is in no pool"), ("10.66.0.1", "taken"), ("10.66.0.9", "")],
)
def test_an_address_that_the_server_cannot_give_is_a_warning_at_once(server: Path, address: str, warning: str) -> None:
    users = ("--users", str(server / "users.json"))
    run("user", "add", "alice", *users, stdin="correct horse battery\n")
    code, said = run("user", "set", "alice", *users, "--address", address)
    assert code == 0
    assert ("the server refuses this user" in said) == bool(warning)
    assert warning in said


def test_check_and_reload_count_users_in_json(server: Path) -> None:
    code, said = run("server", "check", "--config", str(server / "server.toml"), "--json")
    assert (code, json.loads(said)) == (0, {"users": 0, "warnings": []})


def test_options_of_the_client_are_checked_before_a_password_is_asked_for(server: Path, tmp_path: Path) -> None:
    profile = tmp_path / "office.json"
    profile.write_text(
        json.dumps({
            "version": 1, "name": "office", "servers": [{"host": "192.0.2.1"}], "server_identity": "x", "identity": "alice",
            "server_trust": {"kind": "raw-key", "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
            "login": {"kind": "password", "user": "alice"},
        })
    )  # fmt: skip
    code, said = run("client", "--profile", str(profile), "--kill-switch", "on", "--state", str(tmp_path / "state"))
    assert code == 1
    assert "must be one of off, when-up, always" in said


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "list", "--users", "{}/users.json"), ("server", "check", "--config", "{}/server.toml"),
        ("status", "--config", "{}/server.toml"), ("down", "--state", "{}"), ("restore", "--state", "{}"),
        ("key", "new", "{}/a.key"), ("server", "run", "--config", "{}/server.toml"), ("server", "renew", "--config", "{}/server.toml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_a_user_who_may_not_gets_one_line(server: Path, arguments: tuple[str, ...]) -> None:
    words = [word.format(server) for word in arguments]
    program = [sys.executable, "-c", "from warren_cli.entry import main; main()", "vpn", *words]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *program],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "Permission denied" in done.stderr or "only root" in done.stderr
    assert "Errno" not in done.stderr
