"""The command `warren-agent` as its user meets it: where settings come from, what is kept, and one line for what is wrong."""

import json
import re
import stat
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from warren_agent import main as command
from warren_agent.errors import BadSettingError, BadStateError, DamagedIdentityError
from warren_agent.settings import check_settings, given_settings, state_folder
from warren_agent.state.host_settings import read_host_settings, store_host_settings
from warren_agent.state.store import Enrolment, StateStore
from warren_contracts.documents import SignedDocument
from warren_testkit.agent.process import join_token
from warren_testkit.intent import public_key

TOKEN = join_token(b"r" * 32)


def identity(name: str = "fleet") -> Enrolment:
    signed = SignedDocument(
        subject="warren.v1.trust", epoch=1, revision=1, payload="{}", signer="root", signature="A" * 86 + "=="
    )
    return Enrolment(
        peer="hub", tags=("hub",), root=public_key(name), trust=signed, servers=("nats://192.0.2.10:4222",),
        enrolled_at=datetime.now(UTC),
    )  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def enrolled(state: Path) -> StateStore:
    store = StateStore(state)
    store.prepare()
    store.save_identity(identity())
    return store


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int) -> str:
    """The one line that it says before it ends with `code`."""
    with pytest.raises(SystemExit) as ended:
        command.main([str(word) for word in arguments])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (code, "")
    (line,) = said.err.splitlines()
    assert line.startswith("warren-agent")
    return line


def converged(*options: tuple[str, str], environ: dict[str, str] | None = None) -> tuple[str, ...]:
    """The protected networks that a `run` would announce."""
    given = given_settings(dict(options), environ or {})
    return tuple(map(str, check_settings(read_host_settings(state_folder(given)) | given).subnets))


def test_what_an_enrolment_was_given_is_announced_by_every_later_run(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    assert store_host_settings(state, {"subnets": "10.1.0.0/24", "endpoints": "198.51.100.1", "peer": "hub"}) == [
        "endpoints",
        "subnets",
    ]
    assert stat.S_IMODE((state / "settings.json").stat().st_mode) == 0o600
    here = ("state", str(state))
    assert converged(here) == ("10.1.0.0/24",)
    toml = tmp_path / "agent.toml"
    toml.write_text('subnets = ["10.4.0.0/24"]\n')
    assert converged(here, ("config", str(toml))) == ("10.4.0.0/24",)
    assert converged(here, ("config", str(toml)), environ={"WARREN_SUBNETS": "10.3.0.0/24"}) == ("10.3.0.0/24",)
    assert converged(here, ("subnets", "10.2.0.0/24"), environ={"WARREN_SUBNETS": "10.3.0.0/24"}) == ("10.2.0.0/24",)
    assert store_host_settings(state, {"subnets": "10.1.0.0/24"}) == []
    assert read_host_settings(state)["endpoints"] == "198.51.100.1"


def test_an_empty_list_takes_back_what_an_enrolment_was_given(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    store_host_settings(state, {"subnets": "10.1.0.0/24", "endpoints": "198.51.100.1"})
    here, toml = ("state", str(state)), tmp_path / "agent.toml"
    toml.write_text("subnets = []\n")
    assert converged(here, ("subnets", "")) == ()
    assert converged(here, ("config", str(toml))) == ()
    assert converged(here, ("subnets", ""), environ={"WARREN_SUBNETS": "10.3.0.0/24"}) == ()
    assert converged(here, ("config", str(toml)), environ={"WARREN_SUBNETS": "10.3.0.0/24"}) == ("10.3.0.0/24",)
    assert converged(here, environ={"WARREN_SUBNETS": ""}) == ("10.1.0.0/24",)  # a variable that nobody has set
    assert store_host_settings(state, given_settings({"endpoints": ""}, {})) == ["endpoints"]
    assert check_settings(read_host_settings(state)).endpoints == ()
    assert converged(here) == ("10.1.0.0/24",)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '"x"', "\xff"])
def test_damaged_kept_settings_are_named_with_the_remedy(state: Path, text: str) -> None:
    state.mkdir()
    (state / "settings.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadStateError, match=r"settings.json is damaged: remove it"):
        read_host_settings(state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--peer", "Spoke 1"), "peer: 'Spoke 1': must be 1 to 63 characters of a-z, 0-9, _ and -"),
        (("--subnets", "10.0.0.0/99"), "subnets: '10.0.0.0/99': invalid network; examples: 10.0.0.0/24"),
        (("--subnets", "10.0.0.1/24"), "host bits set; did you mean 10.0.0.0/24"),
        (("--endpoints", "300.1.1.1"), "endpoints: '300.1.1.1': invalid IP address or host name"),
        (
            ("--nats", "foo:bar:baz"),
            "nats_url: invalid server URL 'foo:bar:baz': write one such as tls://192.0.2.10:4222",
        ),
        (("--nats", "http://x:80"), "nats_url: invalid server URL 'http://x:80'"),
        (("--nats", "nats://:4222"), "invalid server URL"),
        (("--nats", "nats://eve:secret@h:99999"), "invalid server URL 'h:99999'"),
        (("--nats", "nats://192.0.2.10"), "clear text, which is accepted on the loopback only: write tls://192.0.2.10"),
        (("--nats-cleartext", "yes"), "nats_cleartext: 'yes' must be one of allow"),
        (("--log-level", "loud"), "log_level: 'loud' must be one of debug, info, warning, error"),
        (("--config", "/dev/zero"), "/dev/zero: more than 64,000 bytes"),
        (("--config", "/nonexistent.toml"), "/nonexistent.toml: No such file or directory"),
        (("--state", "/proc/foo"), "/proc/foo: the state folder cannot be made or written"),
        (("--state", "/dev/null"), "/dev/null: the state folder cannot be made or written"),
    ],
)
@pytest.mark.parametrize("verb", ["enrol", "run"])
def test_a_wrong_value_is_one_line_and_exit_code_1(
    state: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], said: str, verb: str
) -> None:
    assert said in run(capsys, verb, "--state", state, *arguments, code=1)


def test_a_malformed_token_is_a_wrong_value_and_an_absent_one_a_wrong_call(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WARREN_JOIN_TOKEN", raising=False)
    (tmp_path / "token").write_text("wj1_half")
    here = ("enrol", "--state", state)
    assert "malformed" in run(capsys, *here, "--token-file", tmp_path / "token", code=1)
    assert "No such file" in run(capsys, *here, "--token-file", tmp_path / "none", code=1)
    assert "no join token" in run(capsys, *here, code=2)
    (tmp_path / "token").write_text(" \n")
    assert f"{tmp_path / 'token'}: it is empty" in run(capsys, *here, "--token-file", tmp_path / "token", code=1)
    (tmp_path / "token").write_text(f"{TOKEN[:-1]}{'a' if TOKEN[-1] != 'a' else 'b'}")
    assert "mistyped" in run(capsys, *here, "--token-file", tmp_path / "token", code=1)
    (tmp_path / "token").write_text(TOKEN)
    assert "no servers: give --nats" in run(capsys, *here, "--token-file", tmp_path / "token", code=2)


@pytest.mark.parametrize("arguments", [("--colour", "red"), ("enrol", "--colour", "red"), (), ("dance",)])
def test_a_wrong_call_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> None:
    assert "--help" in run(capsys, *arguments, code=2)


def test_a_token_is_never_an_argument_and_never_printed(capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "enrol", "--token", TOKEN, code=2)
    assert TOKEN not in said
    assert "a token is never an argument: give --token-file FILE" in said


def test_a_defect_is_one_line_and_a_traceback_on_request(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ExceptionGroup("several", [KeyError("a name\nof two lines")])

    monkeypatch.setattr(command, "_run", broken)
    assert run(capsys, "run", "--state", state, code=70) == (
        "warren-agent: KeyError: 'a name\\nof two lines' (--log-level debug shows where)"
    )
    with pytest.raises(ExceptionGroup):
        command.main(["run", "--state", str(state), "--log-level", "debug"])


def test_an_enrolled_host_is_no_other_peer_and_takes_what_is_new(
    enrolled: StateStore, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["enrol", "--state", str(enrolled.folder)]
    assert "is the peer hub already, and not lab" in run(capsys, *here, "--peer", "lab", code=1)
    command.main([*here, "--peer", "hub"])
    assert capsys.readouterr().out == "this host is the peer hub already\n"
    command.main([*here, "--subnets", "10.7.0.0/24", "--nats", "tls://192.0.2.11:4222"])
    assert capsys.readouterr().out.endswith("already; changed for its next run: subnets, nats\n")
    assert enrolled.identity().servers == ("tls://192.0.2.11:4222",)
    assert json.loads((enrolled.folder / "settings.json").read_text()) == {"subnets": "10.7.0.0/24"}
    command.main([*here, "--subnets", "10.7.0.0/24"])
    assert capsys.readouterr().out == "this host is the peer hub already\n"


def test_a_host_whose_agent_is_at_work_may_ask_but_not_change(
    enrolled: StateStore, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled.lock()
    here = ["enrol", "--state", str(enrolled.folder)]
    command.main(here)
    assert "already" in capsys.readouterr().out
    assert "another agent uses" in run(capsys, *here, "--subnets", "10.7.0.0/24", code=1)
    assert read_host_settings(enrolled.folder) == {}


def test_a_damaged_identity_says_enrol_again_and_enrolling_again_is_possible(
    enrolled: StateStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WARREN_JOIN_TOKEN", raising=False)
    (enrolled.folder / "identity.json").write_text('{"peer": "hub"')
    (enrolled.folder / "intent.json").write_text("{}")
    assert "identity.json is damaged: enrol again" in run(capsys, "run", "--state", enrolled.folder, code=1)
    # It asks for a token, as on a host that has not joined yet.
    assert "no join token" in run(capsys, "enrol", "--state", enrolled.folder, code=2)
    with pytest.raises(DamagedIdentityError):
        enrolled.identity()
    enrolled.save_identity(identity())
    assert enrolled.identity().peer == "hub"
    assert not (enrolled.folder / "intent.json").exists()  # of a fleet that nobody knows any more


def test_a_setting_of_a_file_is_checked_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('subnets = ["10.0.0.0/33"]\n')
    with pytest.raises(BadSettingError, match="invalid network"):
        check_settings(given_settings({"config": str(tmp_path / "agent.toml")}, {}))


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_an_identity_that_others_could_have_written_is_not_believed(enrolled: StateStore) -> None:
    (enrolled.folder / "identity.json").chmod(0o666)
    with pytest.raises(BadStateError, match="0600"):
        enrolled.save_identity(identity())


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ("192.0.2.1,gw.example,192.0.2.1", "endpoints: 192.0.2.1 is listed twice: remove it"),
        ("[2001:db8::1]:4500, [2001:db8::1]:4500", "is listed twice: remove it"),
        ("255.255.255.255", "endpoints: 255.255.255.255 is not a unicast address: give the address of this gateway"),
        ("ff02::1", "not a unicast address"),
    ],
)
def test_impossible_lists_of_endpoints_are_refused_with_the_remedy(endpoints: str, message: str) -> None:
    with pytest.raises(BadSettingError, match=re.escape(message)):
        check_settings({"endpoints": endpoints})


def test_ports_make_endpoints_distinct() -> None:
    assert len(check_settings({"endpoints": "192.0.2.1,192.0.2.1:4501"}).endpoints) == 2
