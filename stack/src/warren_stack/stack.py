"""The whole stack of one machine as one context: NATS, PostgreSQL, the callout and the services under a supervisor."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from warren_cli.errors import CliError
from warren_lab.errors import LabError
from warren_lab.runtime import make_runtime_folder
from warren_process.atomic_file import write_atomically
from warren_stack.database import dsn, provision
from warren_stack.errors import LocalError
from warren_stack.folders import DataFolder, is_file, write_secret
from warren_stack.lock import exclusive, write_state
from warren_stack.logfile import Complain
from warren_stack.nats import nats_part
from warren_stack.parts import ManagedProcess
from warren_stack.ports import check_bind, check_distinct, choose_port, reachable_addresses, url
from warren_stack.postgres import Postgres
from warren_stack.readiness import waits_for_epoch
from warren_stack.run_as import ProcessUser
from warren_stack.server_config import ServerConfig, ServerTls, render
from warren_stack.services import (
    READERS,
    ROLES,
    SERVICES,
    Service,
    ServiceEnvironment,
    bootstrap_token_part,
    service_part,
)
from warren_stack.supervisor import Notify, ProcessSupervisor
from warren_stack.tls.check import check_authorities
from warren_stack.tls.control_plane import ControlPlaneTls, Files, TlsOptions
from warren_stack.tls.folder import TlsFolder
from warren_stack.tls.listeners import is_loopback
from warren_stack.users import give, part_users, share
from warren_trust.keys import caller_keys, create_keys

HEALTH_PAUSE_SECONDS = 0.05
BOOTSTRAP_LIMIT_SECONDS = 60.0


@dataclass(frozen=True)
class StackOptions:
    """What `warren up` is asked for. A port of 0 means any free one."""

    data: Path
    bind: str = "127.0.0.1"
    http_bind: str | None = None  # None: as `bind`
    http_port: int = 8400
    nats_port: int = 4222
    metrics_port: int = 9400
    metrics_bind: str = "127.0.0.1"  # everything about the fleet, without a token: elsewhere only on request, by HTTPS
    metrics_client_ca: Path | None = None  # scrapers need a certificate of one of these CAs, also on the loopback
    log_level: str = "info"
    ready_limit_seconds: float = 60.0
    tls: TlsOptions = field(default_factory=TlsOptions)


@dataclass(frozen=True)
class StackInfo:
    """Where to look, once the stack is ready."""

    url: str
    nats_url: str
    metrics_url: str
    token_file: Path
    data: Path
    log: Path
    took_seconds: float

    restored: bool = False  # from a backup, as it seems: nothing is published before a new epoch is announced

    @property
    def ca_file(self) -> Path:
        """The CAs that clients trust."""
        return TlsFolder(DataFolder(self.data).tls).trusted


@dataclass(frozen=True)
class _Ports:
    """Where the stack listens: the bus on the address of `bind`, HTTP on `http_host`, the metrics on `metrics_host`."""

    http_host: str
    http: int
    nats: int
    metrics_host: str
    metrics: int


def _check_options(options: StackOptions) -> None:
    """Raises LocalError for what cannot be, before anything is made."""
    ports = {"--http-port": options.http_port, "--nats-port": options.nats_port}
    check_distinct(ports | {"--metrics-port": options.metrics_port})
    if options.metrics_client_ca is not None:
        if options.tls.cleartext:
            raise LocalError("--metrics-client-ca needs TLS: omit --cleartext")
        check_authorities(options.metrics_client_ca)
    options.tls.check((options.bind, options.http_bind or options.bind))


def _choose_ports(options: StackOptions) -> _Ports:
    """Raises LocalError for an address that is not this machine's, and for a port that is taken."""
    http_host = options.http_bind or options.bind
    check_bind(options.bind)
    return _Ports(
        http_host,
        choose_port(http_host, options.http_port, "--http-port"),
        choose_port(options.bind, options.nats_port, "--nats-port"),
        options.metrics_bind,
        choose_port(options.metrics_bind, options.metrics_port, "--metrics-port"),
    )


class Stack:
    """Started by `async with`; `info` says where it is. Leaving stops every part in reverse order."""

    def __init__(self, options: StackOptions, notify: Notify | None = None, complain: Complain | None = None) -> None:
        self.options = options
        self.data = DataFolder(options.data.absolute())
        self.tls = ControlPlaneTls(TlsFolder(self.data.tls), options.tls, complain or _quiet)
        self.supervisor = ProcessSupervisor(self.data.log, notify, complain)
        self._resources = contextlib.AsyncExitStack()
        self._info: StackInfo | None = None
        self._users: Mapping[str, ProcessUser] | None = None  # of the parts, by name; None: all have ours

    @property
    def info(self) -> StackInfo:
        if self._info is None:
            raise LocalError("the stack has not started")
        return self._info

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def _start(self) -> None:
        began = time.monotonic()
        _check_options(self.options)
        self.data.create()
        self._resources.enter_context(exclusive(self.data))
        ports = _choose_ports(self.options)
        runtime = make_runtime_folder()
        self._resources.callback(shutil.rmtree, runtime, ignore_errors=True)
        http_url = self.tls.local_url("https", ports.http_host, ports.http)
        write_state(self.data, runtime=str(runtime), url=http_url)
        self._users = part_users(runtime)
        forbid_core_files()
        certificates = self._make_certificates(ports)

        public_keys = create_keys(self.data.keys)
        await self._resources.enter_async_context(self.supervisor)
        self._start_nats(public_keys, ports.nats)
        keeping = asyncio.create_task(self.tls.keep({"nats": self._reload_nats}))
        self._resources.callback(keeping.cancel)
        postgres = await self._start_postgres(runtime)
        around = self._surroundings(ports, public_keys, postgres, certificates)
        ready = await self._start_services(around, http_url, began + self.options.ready_limit_seconds)
        self._info = StackInfo(
            url=next(iter(self.tls.urls("https", ports.http_host, ports.http)), http_url),
            nats_url=next(iter(self.tls.urls("tls", self.options.bind, ports.nats)), around.nats_url),
            metrics_url=f"{url('https' if 'metrics' in certificates else 'http', ports.metrics_host, ports.metrics)}/metrics",
            token_file=self.data.token,
            data=self.data.path,
            log=self.data.log,
            took_seconds=time.monotonic() - began,
            restored=not ready,
        )

    def _make_certificates(self, ports: _Ports) -> Files:
        """The files of each listener that has TLS; the metrics on the loopback have none."""
        binds = {"nats": self.options.bind, "api": ports.http_host}
        if not is_loopback(ports.metrics_host) or self.options.metrics_client_ca is not None:
            binds["metrics"] = ports.metrics_host
        return self.tls.prepare(binds, self._user)

    def _client_ca(self) -> Path | None:
        """A copy of the CAs of scrapers, where the metrics service may read it."""
        given = self.options.metrics_client_ca
        if given is None:
            return None
        copy = self.tls.folder.folder("metrics") / "clients.pem"
        write_atomically(copy, given.read_bytes(), mode=0o644)
        return copy

    async def _reload_nats(self) -> None:
        """NATS reads its certificate again; connections of agents end with that (docs/bus.md, c6) and return at once."""
        process_id = self.supervisor.parts["nats"].process_id
        if process_id is not None:  # else its next start reads it
            os.kill(process_id, signal.SIGHUP)

    def _surroundings(
        self, ports: _Ports, public_keys: dict[str, str], postgres: Postgres, certificates: Files
    ) -> ServiceEnvironment:
        bind = self.options.bind
        return ServiceEnvironment(
            nats_url=self.tls.local_url("tls", bind, ports.nats),
            ca_file=self.tls.ca_file,
            nats_server_name=self.tls.verified_name,
            bus_urls=",".join(self.tls.urls("tls", bind, ports.nats)),
            bus_addresses=(*self.options.tls.advertise, *reachable_addresses(bind)),
            keys=self.data.keys,
            secrets=self.data.secrets,
            postgres_dsns={role: dsn(postgres.host, role) for role in (*ROLES, *READERS)},
            postgres_host=postgres.host,
            policy_public_key=public_keys["policy-signing"],
            root_public_key=public_keys["root"],
            caller_keys=caller_keys(public_keys),
            http_host=ports.http_host,
            http_port=ports.http,
            metrics_host=ports.metrics_host,
            metrics_port=ports.metrics,
            certificates=certificates,
            metrics_client_ca=self._client_ca(),
            log_level=self.options.log_level,
        )

    async def _start_services(self, around: ServiceEnvironment, http_url: str, deadline: float) -> bool:
        """See `_wait_healthy` for what is returned and raised."""
        given = {service.name: self._of_part(service, around) for service in SERVICES}
        for service in SERVICES:
            self.supervisor.add(service_part(service, *given[service.name]))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._make_token(bootstrap_token_part("admin", "admin", *given["registry"])))
                health = tasks.create_task(self._wait_healthy(http_url, deadline))
        except* (CliError, LabError) as group:
            raise group.exceptions[0] from group
        return health.result()

    def _user(self, part: str) -> ProcessUser | None:
        return None if self._users is None else self._users[part]

    def _of_part(
        self, service: Service, around: ServiceEnvironment
    ) -> tuple[ServiceEnvironment, ProcessUser | None, tuple[Path, ...]]:
        """The environment of a service, its user, and the folders that it must reach: a user of its own sees its own keys only."""
        user = self._user(service.name)
        if user is None:
            return around, None, ()
        folder = self.data.parts / service.name
        files = [self.data.keys / f"{name}.seed" for name in (service.nkey, *service.seeds.values())]
        needed = [folder, *([] if around.ca_file is None else [around.ca_file.parent])]
        if service.role is not None:
            files.append(self.data.secrets / f"pg-{service.role}.pass")
            needed.append(Path(around.postgres_host))
        if service.name in around.certificates:
            needed.append(self.tls.folder.folder(service.name))
        share(folder, files, user)
        return replace(around, keys=folder, secrets=folder), user, tuple(needed)

    def _start_nats(self, public_keys: dict[str, str], port: int) -> None:
        config, user, folder = self.data.nats / "nats.conf", self._user("nats"), self.tls.folder
        served = ServerTls(folder.certificate("nats"), folder.key("nats"), folder.services_trust)
        tls = None if self.options.tls.cleartext else served
        settings = ServerConfig(public_keys, self.data.nats / "jetstream", self.options.bind, port, tls=tls)
        config.write_text(render(settings))
        give(self.data.nats, user)
        certificates = None if self.options.tls.cleartext else folder.folder("nats")
        self.supervisor.add(nats_part(config, self.options.bind, port, user, certificates))

    async def _start_postgres(self, runtime: Path) -> Postgres:
        superuser_password = self.data.secrets / "pg-postgres.pass"
        postgres = Postgres(self.data.postgres, runtime / "pg", superuser_password, self._user("postgres"))
        await postgres.prepare()
        self.supervisor.add(postgres.part())
        try:
            await provision(postgres, ROLES, self.data.secrets, READERS)
        except LocalError as error:
            raise LocalError(f"{error}; {self.supervisor.parts['postgres'].last_output()}") from error
        return postgres

    async def _make_token(self, part: ManagedProcess) -> None:
        """The first operator's token, at the first start. It is printed by the registry once and kept in a 0600 file."""
        if is_file(self.data.token):
            return
        process = await asyncio.create_subprocess_exec(
            *part.command(),
            env=dict(part.env),
            cwd="/" if part.user is not None else None,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), BOOTSTRAP_LIMIT_SECONDS)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        if process.returncode != 0:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise LocalError(f"the registry made no operator token (code {process.returncode}): {' '.join(last)}")
        write_secret(self.data.token, output.decode().strip() + "\n")

    async def _wait_healthy(self, base: str, deadline: float) -> bool:
        """Until /api/health is ready for every dependency, or for all but the word of an operator after a restore (False).

        Raises:
            LocalError: not before the deadline; it names what is unavailable and the last output of what restarts.
        """
        last = "no answer yet"
        verified = {"sni_hostname": self.tls.verified_name} if self.tls.verified_name else {}
        async with self.tls.client() as client:
            while time.monotonic() < deadline:
                try:
                    reply = await client.get(f"{base}/api/health", extensions=verified)
                except httpx.HTTPError as error:
                    last = f"{type(error).__name__}: {error}"
                else:
                    if reply.status_code == httpx.codes.OK:
                        return True
                    if waits_for_epoch(reply):
                        return False
                    last = f"{reply.status_code} {reply.text[:400]}"
                await asyncio.sleep(HEALTH_PAUSE_SECONDS)
        failing = [part.last_output() for part in self.supervisor.parts.values() if part.starts > 1]
        raise LocalError(f"not ready after {self.options.ready_limit_seconds:g} s: {'; '.join([last, *failing])}")


def _quiet(words: str) -> None:
    """Nobody asked for remarks."""


def forbid_core_files() -> None:
    """No part, and not this process, writes its memory to a file when it crashes: it contains keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
