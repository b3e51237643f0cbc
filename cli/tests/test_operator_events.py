"""`warren events` against an API server on a real socket: what is stored, what is followed, and how a line shows an event."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from warren_cli.main import app
from warren_cli.remote.events import line_of
from warren_contracts.commands import Role
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run, write


def test_events_that_are_stored_are_printed_and_it_ends(run: Run, api: LiveApi) -> None:
    api.publish("tunnel", {"tunnel": "hub+spoke-1", "state": "up", "status": {"much": 1}})
    api.publish("presence", {"peer": "gw1", "reason": "became unavailable"})
    lines = run("events").stdout.splitlines()
    assert lines[0].split()[0] == "1"
    assert lines[0].endswith("tunnel=hub+spoke-1 state=up")
    assert lines[1].endswith('peer=gw1 reason="became unavailable"')
    assert [json.loads(line)["sequence"] for line in run("events", "--json", "--after", "1").stdout.splitlines()] == [2]
    assert len(run("events", "--kind", "presence").stdout.splitlines()) == 1


def test_events_end_at_once_where_nothing_is_behind_the_place(run: Run, api: LiveApi) -> None:
    assert run("events").stdout == ""
    api.publish("tunnel", {"tunnel": "hub+spoke-1"})
    assert run("events", "--after", "1").stdout == ""
    assert run("events", "--after", str(2**63 - 1)).stdout == ""
    said = run("events", "--after", str(2**63), code=1).stderr
    assert "--after" in said


def test_events_of_a_kind_that_there_is_not_are_refused_with_those_that_there_are(run: Run) -> None:
    assert "unknown kind foo: must be one of changed, " in run("events", "--kind", "foo", code=1).stderr
    assert "shared_key" in CliRunner().invoke(app, ["events", "--help"]).stdout


def test_an_event_line_shows_no_and_zero_and_rounds_figures() -> None:
    data = {"peer": "hub", "ok": False, "revision": 0, "duration_ms": 12.345678, "error": "", "tags": [], "at": "now"}
    line = line_of({"sequence": 7, "type": "warren.policy.applied.v1", "time": "2026-01-01T00:00:00Z", "data": data})
    assert line.endswith("policy.applied   peer=hub ok=no revision=0 duration_ms=12.3")


def test_an_event_line_says_why_a_tunnel_changed_and_since_when() -> None:
    status = {"state": "down", "reason": "peer-unreachable", "detail": "no answer", "since": "2026-01-01T00:00:00Z"}
    data = {"peer": "hub", "tunnel": "hub+spoke-1", "state": "down", "status": status, "at": "now"}
    line = line_of({"sequence": 7, "type": "warren.tunnel.changed.v1", "time": "2026-01-01T00:00:09Z", "data": data})
    assert line.endswith('state=down reason=peer-unreachable detail="no answer" since=2026-01-01T00:00:00Z')
    calm = line_of({"sequence": 8, "type": "t", "data": {"status": {"reason": "none", "since": None}}})
    assert "reason" not in calm


@pytest.mark.slow
def test_a_follower_prints_what_comes_and_ends_cleanly_on_ctrl_c(api: LiveApi, tmp_path: Path) -> None:
    token = write(tmp_path, "token", TOKENS[Role.VIEWER])
    command = [str(Path(sys.executable).with_name("warren")), "events", "--follow", "--after", "0", "--json"]
    options = ["--url", api.url, "--token-file", token]
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*command, *options], stdout=-1, stderr=-1, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            for number in (1, 2):
                api.publish("tunnel", {"number": number})
                assert json.loads(process.stdout.readline())["data"] == {"number": number}
            process.send_signal(2)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.slow
def test_a_follower_resumes_when_the_api_server_returns(tmp_path: Path) -> None:
    token = write(tmp_path, "token", TOKENS[Role.VIEWER])
    command = [str(Path(sys.executable).with_name("warren")), "events", "--follow", "--after", "0", "--json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "WARREN_TOKEN_FILE": token}
    with capture_logs(), LiveApi() as first:
        first.publish("tunnel", {"number": 1})
        process = subprocess.Popen([*command, "--url", first.url], stdout=-1, stderr=-1, text=True, env=environment)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["data"] == {"number": 1}
    with process:
        try:
            with capture_logs(), LiveApi(first) as second:
                second.publish("tunnel", {"number": 2})
                assert json.loads(process.stdout.readline())["sequence"] == 2
                process.send_signal(2)
                assert process.wait(60) == 130
        finally:
            process.kill()
