"""`python -m warren_api`."""

from warren_process.lean_start import without_pretty_tracebacks

without_pretty_tracebacks()

import uvloop

from warren_api.bootstrap import NAME, run
from warren_api.settings import ApiSettings
from warren_service.process import launch

raise SystemExit(launch(NAME, ApiSettings, run, uvloop.new_event_loop))
