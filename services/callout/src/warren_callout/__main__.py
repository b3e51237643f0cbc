"""`python -m warren_callout`."""

from warren_process.lean_start import without_pretty_tracebacks

without_pretty_tracebacks()

from warren_callout.bootstrap import NAME, run
from warren_callout.settings import CalloutSettings
from warren_service.process import launch

raise SystemExit(launch(NAME, CalloutSettings, run))
