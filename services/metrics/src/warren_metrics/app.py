"""The process: settings, logs, run. A missing or wrong setting is named, and the exit code is 2."""

import asyncio
import sys

from pydantic import ValidationError

from warren_bus.errors import BadKey, MissingSetting
from warren_bus.logs import setup_logs
from warren_bus.settings import BusSettings
from warren_metrics.bootstrap import NAME, run
from warren_metrics.settings import MetricsSettings

EXIT_SETTINGS = 2


def main() -> int:
    """Run the service; returns the exit code."""
    try:
        bus, settings = BusSettings.from_env(), MetricsSettings()
        bus.key()
    except (MissingSetting, BadKey) as error:
        return _refuse(str(error))
    except ValidationError as error:
        names = ", ".join(f"WARREN_{'_'.join(map(str, item['loc'])).upper()}" for item in error.errors())
        return _refuse(f"{names}: missing or wrong, see docs/interfaces.md")
    setup_logs(NAME, settings.log_format, settings.log_level)
    try:
        asyncio.run(run(bus, settings))
    except OSError as error:
        return _refuse(
            f"{settings.metrics_host}:{settings.metrics_port} (WARREN_METRICS_PORT): {error.strerror or error}"
        )
    return 0


def _refuse(reason: str) -> int:
    print(f"warren-{NAME}: {reason}", file=sys.stderr)
    return EXIT_SETTINGS
