"""How each service is started on this machine: the settings of docs/interfaces.md, by environment. Pure."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warren_stack.parts import ManagedProcess
from warren_stack.run_as import ProcessUser
from warren_stack.users import python_folders

ROLES = ("registry", "policy", "metrics")
"""Services with a schema; role, schema and service have one name."""

READERS = {"callout": "registry"}
"""Roles that only read, and whose schema: the callout decides by the registry's rows and may not write one."""

INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPYCACHEPREFIX")
"""What a part sees of our own environment: nothing that could hold somebody's secret."""


LISTENERS = {"api": "WARREN_HTTP", "metrics": "WARREN_METRICS"}
"""Services that listen, and the prefix of their settings."""

SERVICE_TIER = 2
"""Services stop before PostgreSQL and NATS: their last messages still reach both."""
CALLOUT_TIER = 0
"""The callout stops after NATS (tier 1): a server that waits for its answer would not end before the answer's time is up."""


@dataclass(frozen=True)
class Service:
    """One service's module and the settings that it reads next to the bus's."""

    name: str
    module: str
    nkey: str  # name of its bus user's seed file
    role: str | None = None
    tier: int = SERVICE_TIER
    seeds: Mapping[str, str] = field(default_factory=dict)  # variable -> name of a seed file


SERVICES = (
    Service("streams", "warren_stack.streams", "streams"),
    Service("callout", "warren_callout", "callout", "callout", CALLOUT_TIER, {"WARREN_ISSUER_KEY_FILE": "issuer"}),
    Service(
        "registry",
        "warren_registry",
        "registry",
        "registry",
        SERVICE_TIER,
        {"WARREN_SIGNING_KEY_FILE": "registry-signing", "WARREN_ROOT_KEY_FILE": "root"},
    ),
    Service("policy", "warren_policy", "policy", "policy", SERVICE_TIER, {"WARREN_SIGNING_KEY_FILE": "policy-signing"}),
    Service("metrics", "warren_metrics", "metrics", "metrics"),
    Service("api", "warren_api", "api"),
)


@dataclass(frozen=True)
class ServiceEnvironment:
    """The addresses, keys and folders that the services get in their settings."""

    nats_url: str
    keys: Path
    secrets: Path
    postgres_dsns: Mapping[str, str]  # by role
    policy_public_key: str
    root_public_key: str
    caller_keys: Mapping[str, str]  # by service: who may call is verified by them
    http_host: str
    http_port: int
    metrics_host: str
    metrics_port: int
    certificates: Mapping[str, tuple[Path, Path]] = field(
        default_factory=dict
    )  # of services that listen: certificate, key
    bus_addresses: tuple[str, ...] = ()  # by which agents reach the bus
    ca_file: Path | None = None  # the CAs that vouch for the bus; None: clear text
    nats_server_name: str = ""  # what the bus's certificate is for, if not the host in its URL
    bus_urls: str = ""  # URLs by comma, as agents reach the bus
    metrics_client_ca: Path | None = None  # the CAs of scrapers
    postgres_host: str = ""  # the folder of its socket, on this machine
    log_format: str = "json"
    log_level: str = "info"


def inherited_environment() -> dict[str, str]:
    """Our own environment, as far as a part may see it."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def service_environment(service: Service, around: ServiceEnvironment) -> dict[str, str]:
    """Every setting of one service, as docs/interfaces.md names them."""
    environment = {
        **inherited_environment(),
        **{name: value for name, value in os.environ.items() if name.startswith("OTEL_")},
        "PYTHONUNBUFFERED": "1",
        "WARREN_NATS_URL": around.nats_url,
        "WARREN_NKEY_FILE": str(around.keys / f"{service.nkey}.seed"),
        "WARREN_POLICY_PUBLIC_KEY": around.policy_public_key,
        "WARREN_ROOT_PUBLIC_KEY": around.root_public_key,
        "WARREN_BUS_ADDRESSES": ",".join(around.bus_addresses),
        "WARREN_CALLER_KEYS": ",".join(f"{name}={key}" for name, key in sorted(around.caller_keys.items())),
        "WARREN_HTTP_HOST": around.http_host,
        "WARREN_HTTP_PORT": str(around.http_port),
        "WARREN_METRICS_HOST": around.metrics_host,
        "WARREN_METRICS_PORT": str(around.metrics_port),
        "WARREN_LOG_FORMAT": around.log_format,
        "WARREN_LOG_LEVEL": around.log_level,
    }
    if around.ca_file is not None:
        environment["WARREN_CA_FILE"] = str(around.ca_file)
    if around.nats_server_name:
        environment["WARREN_NATS_SERVER_NAME"] = around.nats_server_name
    if service.name == "registry":
        environment["WARREN_BUS_URLS"] = around.bus_urls
    if service.role is not None:
        environment["WARREN_POSTGRES_DSN"] = around.postgres_dsns[service.role]
        environment["PGPASSFILE"] = str(around.secrets / f"pg-{service.role}.pass")
    if service.name in around.certificates and service.name in LISTENERS:
        certificate, key = around.certificates[service.name]
        prefix = LISTENERS[service.name]
        environment |= {f"{prefix}_CERT_FILE": str(certificate), f"{prefix}_KEY_FILE": str(key)}
        if service.name == "metrics" and around.metrics_client_ca is not None:
            environment["WARREN_METRICS_CLIENT_CA_FILE"] = str(around.metrics_client_ca)
    elif service.name == "api":
        environment["WARREN_HTTP_CLEARTEXT"] = "allow"
    for variable, seed in service.seeds.items():
        environment[variable] = str(around.keys / f"{seed}.seed")
    return environment


def service_part(
    service: Service, around: ServiceEnvironment, user: ProcessUser | None = None, needed: tuple[Path, ...] = ()
) -> ManagedProcess:
    """One service as a process of its own, with this very interpreter. `user` reaches `needed` and the interpreter's folders."""
    return ManagedProcess(
        service.name,
        (sys.executable, "-m", service.module),
        _environment(service, around, user),
        tier=service.tier,
        user=user,
        needed=(*needed, *python_folders()),
    )


def bootstrap_token_command(name: str, role: str) -> tuple[str, ...]:
    """The command that makes a bearer token and prints it once; it runs with the registry's settings. It is started when the
    token's file is missing: a token that was made and lost with its file is replaced."""
    return (sys.executable, "-m", "warren_registry.bootstrap_token", "--name", name, "--role", role, "--replace")


def bootstrap_token_part(
    name: str, role: str, around: ServiceEnvironment, user: ProcessUser | None = None, needed: tuple[Path, ...] = ()
) -> ManagedProcess:
    """`bootstrap_token_command` as a process with the registry's settings and user."""
    registry = next(service for service in SERVICES if service.name == "registry")
    return ManagedProcess(
        "bootstrap-token",
        bootstrap_token_command(name, role),
        _environment(registry, around, user),
        user=user,
        needed=(*needed, *python_folders()),
    )


def _environment(service: Service, around: ServiceEnvironment, user: ProcessUser | None) -> dict[str, str]:
    environment = service_environment(service, around)
    # asyncpg looks for files in HOME, and fails where it may not enter it.
    return environment if user is None else {**environment, "HOME": "/nonexistent"}
