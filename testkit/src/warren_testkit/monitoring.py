"""For tests of dashboards and alerts: their queries, and the names of all metrics."""

import json
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from warren_metrics.adapters import families
from warren_metrics.adapters.bus_state import BusState
from warren_metrics.counters import IngestCounters

BOARDS = ("fleet", "peer", "tunnel", "changes", "bus")
_FOLDER = Path(__file__).parents[3] / "deploy/grafana/dashboards"


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Every query of every committed dashboard, with where it stands."""
    for board in BOARDS:
        for panel in json.loads((_FOLDER / f"{board}.json").read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{board}: {panel['title']}", target["expr"]


async def every_metric() -> frozenset[str]:
    """The names of the metrics of the service, without aliases and those of its process."""
    registry = CollectorRegistry()
    IngestCounters(registry)
    BusState(lambda: None, {}, registry, None)  # type: ignore[arg-type, return-value]  # nothing connects
    own = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()
    }  # fmt: skip
    columns = [*(family.name for family in families.TUNNEL), *(column.family.name for column in families.PEER)]
    single = [it.name for it in (families.DRIVER, families.ROLLOUT, families.ROLLOUT_START)]
    return frozenset([*own, *columns, *single, *(name for name, _ in families.FLEET)])
