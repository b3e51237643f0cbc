"""`python -m warren_metrics`."""

from warren_bus.process import launch
from warren_metrics.bootstrap import NAME, run
from warren_metrics.settings import MetricsSettings

raise SystemExit(launch(NAME, MetricsSettings, run))
