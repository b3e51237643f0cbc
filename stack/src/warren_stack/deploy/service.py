"""Becoming one service inside its container: the environment that `warren up` gives it, and nothing else of ours."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from warren_stack.database import dsn
from warren_stack.deploy.certificates import CA_FILE, CERTIFICATE, KEY, LISTENERS
from warren_stack.deploy.folders import PUBLIC_KEYS
from warren_stack.errors import LocalError
from warren_stack.services import READERS, ROLES, SERVICES, Service, ServiceEnvironment, service_environment
from warren_trust.keys import caller_keys

HTTP_PORT = 8400
METRICS_PORT = 9400
EVERYWHERE = "0.0.0.0"  # noqa: S104 - inside a container: what is reached from outside is what it publishes
SETTING = "WARREN_"


def find(name: str) -> Service:
    """The service of this name; LocalError names those that there are."""
    for service in SERVICES:
        if service.name == name:
            return service
    raise LocalError(f"there is no service {name!r}: it is one of {', '.join(service.name for service in SERVICES)}")


def environment(
    service: Service, share: Path, nats_url: str, database_host: str, given: Mapping[str, str]
) -> dict[str, str]:
    """Every setting of the service; what the container's own environment says of a setting (`WARREN_...`) wins.

    Raises:
        LocalError: `share` holds no keys.
    """
    try:
        public_keys = json.loads((share / PUBLIC_KEYS).read_text())
    except OSError as error:
        raise LocalError(f"{share / PUBLIC_KEYS}: {error.strerror}; run `warren deploy keys` first") from None
    around = ServiceEnvironment(
        nats_url=nats_url,
        keys=share,
        secrets=share,
        postgres_dsns={role: dsn(database_host, role, share / CA_FILE) for role in (*ROLES, *READERS)},
        policy_public_key=public_keys["policy-signing"],
        root_public_key=public_keys["root"],
        caller_keys=caller_keys(public_keys),
        http_host=EVERYWHERE,
        http_port=HTTP_PORT,
        metrics_host=EVERYWHERE,
        metrics_port=METRICS_PORT,
        ca_file=share / CA_FILE,
        certificates=dict.fromkeys(LISTENERS, (share / CERTIFICATE, share / KEY)),
    )
    settings = {name: value for name, value in given.items() if name.startswith(SETTING)}
    return {**service_environment(service, around), **settings}


def exec_as(arguments: Sequence[str], settings: Mapping[str, str]) -> None:
    """Replace this process by Python with these arguments: signals reach it, and its exit code is the container's."""
    os.execve(sys.executable, [sys.executable, *arguments], dict(settings))  # noqa: S606 - no shell, on purpose
