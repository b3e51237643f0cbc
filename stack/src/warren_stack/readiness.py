"""What a health reply says of a start: whether only an operator is waited for."""

import httpx
from pydantic import ValidationError

from warren_contracts.commands import Health

COUNTED = ("registry", "policy")
"""The services whose documents have an epoch."""


def waits_for_epoch(reply: httpx.Response) -> bool:
    """Whether everything is there, and only a new epoch is not announced yet."""
    try:
        health = Health.model_validate_json(reply.content)
    except ValidationError:
        return False
    away = {name for name, up in health.dependencies.items() if not up}
    # A service that is unavailable for another reason, or has not said yet, is waited for.
    return bool(away) and away == {word for name in COUNTED if name in away for word in (name, f"{name}/epoch")}
