"""`python -m warren_policy`."""

from warren_bus.process import launch
from warren_policy.bootstrap import NAME, run
from warren_policy.settings import PolicySettings

raise SystemExit(launch(NAME, PolicySettings, run))
