"""Start a service process: settings from the environment, logs, run. A missing or invalid setting is named in one line."""

import asyncio
import ctypes
import resource
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from warren_bus.errors import InvalidSettingError, MissingSettingError
from warren_bus.logs import setup_logs
from warren_bus.settings import CALLER_KEYS, BusSettings
from warren_contracts.validation_messages import plain
from warren_service.service_callers import CALLERS
from warren_trust.errors import InvalidKeyError

EXIT_SETTINGS = 2
"""A setting is missing or invalid: a restart would not correct it."""

LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class ServiceSettings(BaseSettings):
    """Settings of every service next to `BusSettings`: `WARREN_LOG_FORMAT`, `WARREN_LOG_LEVEL`; services add their own."""

    model_config = SettingsConfigDict(env_prefix="WARREN_", frozen=True, extra="ignore", hide_input_in_errors=True)

    log_format: Literal["", "json", "console"] = ""
    log_level: LogLevel = "info"


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def load(kind: type[SettingsT]) -> SettingsT:
    """The settings of this process; InvalidSettingError names each missing or invalid one."""
    try:
        return kind()
    except ValidationError as error:
        raise InvalidSettingError(
            {
                "WARREN_" + "_".join(map(str, wrong["loc"])).upper(): (
                    "is not set" if wrong["type"] == "missing" else f"is invalid: {plain(wrong['msg'])}"
                )
                for wrong in error.errors(include_url=False, include_input=False)
            }
        ) from None


def protect_memory() -> None:
    """Keep other processes of this uid from reading this one's memory and files (prctl(2), PR_SET_DUMPABLE), and write no core file.

    It holds keys. Where there is no prctl (not Linux) only the core file is forbidden.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


_PR_SET_DUMPABLE = 4


def launch(
    name: str,
    kind: type[SettingsT],
    run: Callable[[BusSettings, SettingsT], Coroutine[Any, Any, None]],
    loop_factory: LoopFactory | None = None,
) -> int:
    """Run a service until it ends; returns the exit code (EXIT_SETTINGS with one line on standard error for a setting)."""
    protect_memory()
    try:
        bus, settings = BusSettings.from_env(), load(kind)
        bus.key()
        if name in CALLERS and not bus.caller_keys:
            raise MissingSettingError(CALLER_KEYS)
        setup_logs(name, settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(run(bus, settings))
    except (MissingSettingError, InvalidSettingError, InvalidKeyError) as error:
        print(f"warren-{name}: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    return 0
