"""The configuration of nats-server: five accounts, public keys only.

SYS is the server's own; AUTH holds the callout; CTRL owns the streams and the services, whose users are nkeys of this file;
AGENTS and OPS (operators and other systems) hold the users that the callout accepts and import only what they may read. Operators
and other systems are never users of CTRL: with a publish right there, an RPC's reply could be stored as a policy through its reply
subject.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warren_contracts import subjects
from warren_contracts.verbs import of_operators
from warren_service.permissions import LIVE_OF_OPERATORS
from warren_stack.service_permissions import SERVICES, Right, ServiceRights
from warren_trust.keys import BUS_USERS, ISSUER, XKEY

_V = "warren.v1"
_LIVE = ("policy", "directory", "digest", "secret")
_DIRECT = ("POLICY", "SECRET")
_SERVE_OPERATORS = tuple(dict.fromkeys(command.service for command in of_operators()))


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files (PEM) as the server sees them: its certificate with its CA's, its key, and the CAs of the other servers of a cluster."""

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of servers.

    Secrets come from the server's environment: ROUTE_PASSWORD, and the routes as a whole (`nats-route://warren:<password>@s1:6222`),
    since the server replaces no variable within a text.
    """

    name: str
    listen: str  # `10.0.0.1:6222`
    routes: tuple[str, ...]  # names of environment variables, such as `ROUTE_1`, one for each other server
    tls: ServerTls | None = None  # both servers of a route show a certificate, which must be for clients too


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Settings that differ from one server to another."""

    public_keys: Mapping[str, str]  # as `create_keys` returns them
    store_dir: Path
    host: str = "127.0.0.1"
    port: int = 4222
    name: str = "n1"
    max_memory: str = "256MB"
    max_file: str = "8GB"  # more than the bytes that EVENT and TELEMETRY reserve
    http_port: int | None = None  # monitoring, on `host`
    ports_dir: Path | None = None  # where the server writes its real ports (port -1: any free one)
    cluster: Cluster | None = None
    tls: ServerTls | None = None  # None: clear text
    extra: tuple[str, ...] = field(default=())  # lines appended as they are


def render(config: ServerConfig) -> str:
    """The text of the server's file."""
    keys = {name: config.public_keys[name] for name in (*BUS_USERS, ISSUER, XKEY)}
    parts = [
        _server(config),
        "system_account: SYS\naccounts {",
        _SYS,
        _auth(keys["callout"]),
        _ctrl(keys),
        _AGENTS,
        _OPS,
        "}",
        _callout(keys["callout"], keys[ISSUER], keys[XKEY]),
    ]
    if config.cluster is not None:
        parts.append(_cluster(config.cluster))
    return "\n".join([*parts, *config.extra]) + "\n"


def _server(config: ServerConfig) -> str:
    lines = [
        "# Warren's bus. Public keys only: no secret in this file. Reloading it disconnects every agent.",
        f"server_name: {config.name}",
        f'listen: "{config.host}:{config.port}"',
        "max_payload: 1MB",
        "max_control_line: 64KB",
        "max_connections: 20000",
        'ping_interval: "20s"  # with ping_max, a lost connection ends within a minute (heartbeats detect it in 30 s)',
        "ping_max: 2",
        'write_deadline: "10s"',
        f'jetstream {{ store_dir: "{config.store_dir}", max_mem: {config.max_memory}, max_file: {config.max_file} }}',
    ]
    if config.tls is not None:
        lines.append(_tls(config.tls, "handshake_first: true"))
    if config.http_port is not None:
        lines.append(f'http: "{config.host}:{config.http_port}"')
    if config.ports_dir is not None:
        lines.append(f'ports_file_dir: "{config.ports_dir}"')
    return "\n".join(lines)


def _tls(files: ServerTls, *more: str) -> str:
    lines = [f'cert_file: "{files.certificate}"', f'key_file: "{files.key}"', 'min_version: "1.3"', "timeout: 5", *more]
    return "tls {\n" + "\n".join(f"  {line}" for line in lines) + "\n}"


_SYS = """\
  SYS {
    users: []
    exports: [
      { stream: "$SYS.ACCOUNT.AGENTS.*", accounts: [CTRL] }
      { service: "$SYS.REQ.SERVER.*.KICK", accounts: [CTRL] }
      { service: "$SYS.REQ.SERVER.PING.CONNZ", accounts: [CTRL], response_type: stream }
    ]
  }"""


def _auth(callout: str) -> str:
    return f"""\
  AUTH {{
    limits: {{ max_conn: 64, max_subs: 16 }}
    users: [
      {{ nkey: {callout}, permissions: {{
          subscribe: {{ allow: ["$SYS.REQ.USER.AUTH"] }}
          publish: {{ deny: [">"] }}
          allow_responses: {{ max: 1, expires: "10s" }} }} }}
    ]
  }}"""


def _allow(rights: Iterable[Right]) -> str:
    return "\n".join(f'            "{right.subject}"  # {right.reason}' for right in rights)


def _user(name: str, nkey: str, rights: ServiceRights) -> str:
    responses = '\n          allow_responses: { max: 1, expires: "1m" }' if rights.responds else ""
    return f"""\
      # {name}
      {{ nkey: {nkey}, permissions: {{
          publish: {{ allow: [
{_allow(rights.publish)}
          ] }}
          subscribe: {{ allow: [
{_allow(rights.subscribe)}
          ] }}{responses} }} }}"""


def _ctrl(keys: Mapping[str, str]) -> str:
    users = "\n".join(_user(name, keys[name], rights) for name, rights in SERVICES.items())
    exports = [
        *(f'{{ stream: "live.{_V}.{kind}.>", accounts: [{_readers_of_live(kind)}] }}' for kind in (*_LIVE, "event")),
        *(f'{{ service: "$JS.API.DIRECT.GET.{stream}.>", accounts: [AGENTS] }}' for stream in _DIRECT),
        f'{{ service: "{_V}.telemetry.>", accounts: [AGENTS] }}',
        f'{{ service: "{_V}.rpc.agent.>", accounts: [AGENTS] }}',
        f'{{ service: "{_V}.rpc.enrol.*", accounts: [AGENTS] }}',
        *(
            f'{{ service: "{subjects.rpc_of_operators(service, "*")}", accounts: [OPS] }}'
            for service in _SERVE_OPERATORS
        ),
    ]
    return f"""\
  CTRL {{
    jetstream: enabled
    limits: {{ max_conn: 512, max_subs: 4096 }}
    users: [
{users}
    ]
    imports: [
      {{ stream: {{ account: SYS, subject: "$SYS.ACCOUNT.AGENTS.*" }}, prefix: "sys" }}
      {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.*.KICK" }} }}
      {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.CONNZ" }} }}
    ]
    exports: [
{_indented(exports)}
    ]
  }}"""


def _readers_of_live(kind: str) -> str:
    """The accounts that may import what a stream republishes."""
    return ", ".join(account for account, kinds in (("AGENTS", _LIVE), ("OPS", LIVE_OF_OPERATORS)) if kind in kinds)


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"      {line}" for line in lines)


def _imports(kind: str, subjects: Iterable[str], option: str = "") -> list[str]:
    return [f'{{ {kind}: {{ account: CTRL, subject: "{subject}" }}{option} }}' for subject in subjects]


_SHARE = ", share: true"  # the handler receives the caller (Nats-Request-Info)
_UNREPLIABLE = f', prefix: "{subjects.UNREPLIABLE}"'  # no client can name these subjects as a reply's

_AGENT_IMPORTS = [
    *_imports("stream", (f"live.{_V}.{kind}.>" for kind in _LIVE), _UNREPLIABLE),
    *_imports("service", (f"$JS.API.DIRECT.GET.{stream}.>" for stream in _DIRECT)),
    *_imports("service", (f"{_V}.telemetry.>",)),
    *_imports("service", (f"{_V}.rpc.agent.>", f"{_V}.rpc.enrol.*"), _SHARE),
]

# The limits of user JWTs are ignored in this mode, so the account's stand for each connection; past max_subs a client is
# closed for good, so it lies far above what MAX_TAGS tags need.
_AGENTS = f"""\
  AGENTS {{
    limits: {{ max_subs: 512, max_payload: 524288, max_conn: 15000 }}
    imports: [
{_indented(_AGENT_IMPORTS)}
    ]
  }}"""

# An operator's call arrives on a subject that no service calls: nobody can pass for a service by hiding who calls.
_OPS_IMPORTS = [
    *(
        f'{{ service: {{ account: CTRL, subject: "{subjects.rpc_of_operators(it.service, it.verb)}" }}'
        f', to: "{subjects.rpc(it.service, it.verb)}"{_SHARE} }}'
        for it in of_operators()
    ),
    *_imports("stream", (f"live.{_V}.{kind}.>" for kind in LIVE_OF_OPERATORS), _UNREPLIABLE),
]

# An operator's connection needs its inbox and what is live; 512 connections are a hundred people and their tools.
_OPS = f"""\
  OPS {{
    limits: {{ max_subs: 64, max_payload: 1048576, max_conn: 512 }}
    imports: [
{_indented(_OPS_IMPORTS)}
    ]
  }}"""


def _callout(callout: str, issuer: str, xkey: str) -> str:
    return f"""\
authorization {{
  timeout: 5  # s; a client waits no longer for its answer (warren_bus.dial), and a silent one holds a connection
  auth_callout {{
    issuer: {issuer}
    account: AUTH
    auth_users: [ {callout} ]
    xkey: {xkey}  # requests hold tokens: only the callout can read them
    allowed_accounts: [ AUTH, AGENTS, OPS ]  # users of CTRL are checked by this file only
  }}
}}"""


def _cluster(cluster: Cluster) -> str:
    routes = "\n".join(f"    ${variable}" for variable in cluster.routes)
    tls = "" if cluster.tls is None else "\n" + _tls(cluster.tls, f'ca_file: "{cluster.tls.authorities}"')
    return f"""\
cluster {{
  name: {cluster.name}
  listen: "{cluster.listen}"{tls}
  no_advertise: true
  authorization {{ user: warren, password: $ROUTE_PASSWORD, timeout: 5 }}
  routes: [
{routes}
  ]
}}"""
