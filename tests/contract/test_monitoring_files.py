"""`deploy/grafana`, `deploy/prometheus`, `deploy/mixin`, docs/runbooks: what is generated is current, and everything fits together.

No Grafana runs here: dashboards are read by the types of Grafana's own SDK, provisioning files by a schema of what Grafana documents.
The queries run on a real Prometheus in tests/integration/services/test_monitoring.py.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _jsonnet
import jsonschema
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry

from warren_contracts.rollouts import PolicyRollout, RolloutState
from warren_metrics.counters import IngestCounters
from warren_testkit.metrics import Talk, status, text_of
from warren_testkit.monitoring import BOARDS, dashboard_queries, every_metric
from warren_tools.dashboards.files import written

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ALERTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/warren-alerts.yaml").read_text())["groups"][0][
    "rules"
]
RULES: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/warren-rules.yaml").read_text())["groups"][0][
    "rules"
]
METRIC = re.compile(r"\bwarren_[a-z0-9_]+\b")

DATASOURCES = {
    "type": "object", "required": ["apiVersion", "datasources"], "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": 1},
        "datasources": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object", "required": ["name", "type", "access", "url"], "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"}, "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
                    "type": {"const": "prometheus"}, "access": {"enum": ["proxy", "direct"]},
                    "url": {"type": "string", "pattern": "^https?://"}, "isDefault": {"type": "boolean"},
                    "editable": {"type": "boolean"}, "orgId": {"type": "integer"}, "jsonData": {"type": "object"},
                },
            },
        },
    },
}  # fmt: skip
PROVIDERS = {
    "type": "object", "required": ["apiVersion", "providers"], "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": 1},
        "providers": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object", "required": ["name", "type", "options"], "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"}, "orgId": {"type": "integer"}, "folder": {"type": "string"}, "folderUid": {"type": "string"},
                    "type": {"const": "file"}, "disableDeletion": {"type": "boolean"}, "allowUiUpdates": {"type": "boolean"},
                    "updateIntervalSeconds": {"type": "integer", "minimum": 1},
                    "options": {
                        "type": "object", "required": ["path"], "additionalProperties": False,
                        "properties": {"path": {"type": "string"}, "foldersFromFilesStructure": {"type": "boolean"}},
                    },
                },
            },
        },
    },
}  # fmt: skip


def tool(name: str, *words: str | Path, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a tool of Prometheus; skips where it is not installed."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed: deploy/debian/setup.sh --tests")
    return subprocess.run([path, *words], input=text, capture_output=True, text=True, timeout=120, check=False)


def test_generated_files_are_current() -> None:
    for path, text in written(DEPLOY).items():
        assert path.read_text() == text, f"{path} is not current: make docs"


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_what_grafanas_own_types_read(name: str) -> None:
    parsed = json.loads((DEPLOY / f"grafana/dashboards/{name}.json").read_text())
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(parsed))) == parsed
    references = [[target["refId"] for target in panel.get("targets", [])] for panel in parsed["panels"]]
    assert all(len(names) == len(set(names)) for names in references)
    assert all(panel.get("description") for panel in parsed["panels"] if panel["type"] != "row")


def test_provisioning_files_have_the_form_that_grafana_documents() -> None:
    found = {
        kind: yaml.safe_load(next((DEPLOY / f"grafana/provisioning/{kind}").iterdir()).read_text())
        for kind in ("datasources", "dashboards")
    }
    jsonschema.validate(found["datasources"], DATASOURCES)
    jsonschema.validate(found["dashboards"], PROVIDERS)
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]["grafana"]
    assert f"../grafana/dashboards:{found['dashboards']['providers'][0]['options']['path']}:ro" in compose["volumes"]
    assert compose["profiles"] == ["monitoring"]


def names_in(expression: str) -> Iterator[str]:
    """The names of metrics; those of recording rules have a colon before or after them."""
    for found in METRIC.finditer(expression):
        around = expression[max(0, found.start() - 1) : found.end() + 1]
        if ":" not in around:
            yield re.sub(r"_(bucket|sum|count)$", "", found[0])


async def test_every_metric_is_documented_and_every_query_uses_metrics_that_there_are() -> None:
    known = await every_metric()
    page = (ROOT / "docs/monitoring.md").read_text()
    assert [name for name in known if f"`{name}`" not in page] == []
    expressions = [
        *(rule["expr"] for rule in (*ALERTS, *RULES)),
        *(expression for _, expression in dashboard_queries()),
    ]
    assert {name for expression in expressions for name in names_in(expression)} <= known
    recorded = {rule["record"] for rule in RULES}
    used = {name for expression in expressions for name in re.findall(r"\b\w+:\w+:\w+\b", expression)}
    assert used <= recorded
    assert all(f"`{name}`" in page for name in recorded)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_the_parts_of_a_mixin_a_runbook_and_a_test(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert name.startswith("Warren")
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert "{{" not in alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith((".", "`."))
    page = ROOT / alert["annotations"]["runbook_url"]
    assert page == ROOT / f"docs/runbooks/{name}.md"
    text = page.read_text()
    assert all(f"\n## {part}\n" in text for part in ("Symptom", "What it means", "Look", "Remedies"))
    assert f"`{name}`" in (ROOT / "docs/monitoring.md").read_text()
    tests = yaml.safe_load((DEPLOY / "prometheus/tests/alerts.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", []) if case["alertname"] == name]
    assert {bool(case["exp_alerts"]) for case in cases} == {False, True}


def test_every_runbook_belongs_to_an_alert_and_its_links_exist() -> None:
    pages = list((ROOT / "docs/runbooks").glob("*.md"))
    assert {page.stem for page in pages} == {alert["alert"] for alert in ALERTS}
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_rules_pass_promtools_tests() -> None:
    done = tool("promtool", "test", "rules", DEPLOY / "prometheus/tests/alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configurations_of_prometheus_and_alertmanager_are_valid() -> None:
    done = tool("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus/prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = tool("amtool", "check-config", DEPLOY / "prometheus/alertmanager.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


async def test_names_follow_the_conventions_that_promtool_checks() -> None:
    from warren_metrics.adapters.prometheus import FleetScraper

    talk, registry = Talk(), CollectorRegistry()
    IngestCounters(registry)
    talk.presence("gw1")
    talk.report("gw1", status("t"))
    rollout = PolicyRollout(policy="branches", revision=1, since=talk.now, gateways=dict.fromkeys(RolloutState, 1))
    scraper = FleetScraper(talk.fleet, registry, lambda: talk.now, rollouts=lambda now: (rollout,))
    done = tool("promtool", "check", "metrics", text=await text_of(scraper))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_mixin_evaluates_with_a_prefix_for_its_runbooks() -> None:
    snippet = f"(import '{DEPLOY / 'mixin/mixin.libsonnet'}') + {{ _config+:: {{ runbookURLPrefix: 'https://docs.example/' }} }}"
    shown = "{ alerts: m.prometheusAlerts, rules: m.prometheusRules, boards: m.grafanaDashboards }"
    found = json.loads(_jsonnet.evaluate_snippet("mixin", f"local m = {snippet}; {shown}"))
    urls = [rule["annotations"]["runbook_url"] for rule in found["alerts"]["groups"][0]["rules"]]
    assert urls == [f"https://docs.example/{alert['annotations']['runbook_url']}" for alert in ALERTS]
    assert found["rules"]["groups"][0]["rules"] == RULES
    assert set(found["boards"]) == {f"warren-{name}.json" for name in BOARDS}
