"""`warren audit`."""

import json
from pathlib import Path

import pytest

from warren_contracts.audit import AuditVerification
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


def test_a_changed_row_is_named_and_its_exit_code_is_another_one(
    run: Run, api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = AuditVerification(ok=False, rows=11, hash="0" * 64, broken_at=3, reason="its hash is another one")
    monkeypatch.setattr(api.bus, "_policy_verify_audit", lambda _: found)
    assert "damaged at row 3: its hash is another one" in run("audit", "verify", code=3).stderr
    assert json.loads(run("audit", "verify", "--json", code=3, lines=0).stdout)["broken_at"] == 3
