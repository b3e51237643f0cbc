"""`python -m warren_gateway`."""

import uvloop

from warren_bus.process import launch
from warren_gateway.bootstrap import NAME, run
from warren_gateway.settings import GatewaySettings

raise SystemExit(launch(NAME, GatewaySettings, run, uvloop.new_event_loop))
