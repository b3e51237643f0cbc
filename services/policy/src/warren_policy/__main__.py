"""`python -m warren_policy`."""

from warren_process.lean_start import without_pretty_tracebacks

without_pretty_tracebacks()

from warren_policy.bootstrap import NAME, run
from warren_policy.settings import PolicySettings
from warren_service.process import launch

raise SystemExit(launch(NAME, PolicySettings, run))
