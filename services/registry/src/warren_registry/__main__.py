"""`python -m warren_registry`."""

from warren_process.lean_start import without_pretty_tracebacks

without_pretty_tracebacks()

from warren_registry.bootstrap import NAME, run
from warren_registry.settings import RegistrySettings
from warren_service.process import launch

raise SystemExit(launch(NAME, RegistrySettings, run))
