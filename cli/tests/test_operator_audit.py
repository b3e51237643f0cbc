"""`warren audit`."""

import json
from pathlib import Path

from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run


def test_the_audit_log_names_who_did_what_from_where(run: Run, api: LiveApi, tmp_path: Path) -> None:
    assert run("audit").stderr == "The audit log is empty.\n"
    api.bus.add_peer("gw1", "branch")
    run("peers", "retag", "gw1", "hub", "--yes")
    run("token", "create", "--tag", "hub", "--out", str(tmp_path / "hub.join"))
    (retag, _) = json.loads(run("audit", "--json").stdout)
    assert (retag["actor"], retag["client"], retag["action"]) == ("the-admin", "127.0.0.1", "retag")
    assert json.loads(retag["detail"]) == {"peer": "gw1", "tags": ["hub"]}
    assert "127.0.0.1" in run("audit", "--actor", "the-admin").stdout
    assert run("audit", "--actor", "bob").stderr == "The audit log is empty.\n"
