"""`python -m warren_registry`."""

from warren_bus.process import launch
from warren_registry.bootstrap import NAME, run
from warren_registry.settings import RegistrySettings

raise SystemExit(launch(NAME, RegistrySettings, run))
