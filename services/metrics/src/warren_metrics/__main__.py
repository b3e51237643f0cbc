"""`python -m warren_metrics`."""

from warren_process.lean_start import without_pretty_tracebacks

without_pretty_tracebacks()

from warren_metrics.bootstrap import NAME, run
from warren_metrics.settings import MetricsSettings
from warren_service.process import launch

raise SystemExit(launch(NAME, MetricsSettings, run))
