"""`python -m warren_gateway`."""

import uvloop

from warren_gateway.bootstrap import NAME, run
from warren_gateway.settings import GatewaySettings
from warren_service.process import launch

raise SystemExit(launch(NAME, GatewaySettings, run, uvloop.new_event_loop))
