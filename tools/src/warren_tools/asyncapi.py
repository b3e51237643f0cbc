"""`python -m warren_tools.asyncapi [FILE]`: the AsyncAPI 3.0 document of the bus and of the API's live stream (docs/asyncapi.json).

Generated from `warren_contracts` only: subjects become channels, models become messages, COMMANDS become request and reply.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from warren_contracts import documents, subjects
from warren_contracts.cloudevents import (
    DIGEST_PUBLISHED,
    DIRECTORY_PUBLISHED,
    POLICY_PUBLISHED,
    TELEMETRY_TYPES,
)
from warren_contracts.documents import ReaderDigest, TrustDocument
from warren_contracts.events import EVENTS
from warren_contracts.names import NAME_PATTERN, NKEY_PATTERN
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PolicySet
from warren_contracts.problems import CONTENT_TYPE, Problem
from warren_contracts.status import TunnelState
from warren_contracts.subjects import READER_PATTERN, VERSION
from warren_contracts.telemetry import PRESENCE
from warren_contracts.verbs import COMMANDS, Command
from warren_tools.released import TELEMETRY, released_models

# CloudEvents type -> (source, kind, name) of the subject `warren.v1.event.<source>.<kind>.<name>`.
EVENT_ADDRESSES = {
    "warren.policy.changed.v1": ("policy", "changed", "policy"),
    "warren.peer.enrolled.v1": ("registry", "enrolled", "peer"),
    "warren.peer.announced.v1": ("registry", "announced", "peer"),
    "warren.peer.revoked.v1": ("registry", "revoked", "peer"),
    "warren.peer.retagged.v1": ("registry", "retagged", "peer"),
    "warren.peer.priority-changed.v1": ("registry", "priority", "peer"),
    "warren.peer.shared-key.v1": ("registry", "shared_key", "peer"),
    "warren.peer.presence.v1": ("registry", "presence", "peer"),
    "warren.epoch.advanced.v1": ("registry", "epoch", "epoch"),
    "warren.tunnel.changed.v1": ("metrics", "tunnel", "peer"),
    "warren.policy.applied.v1": ("metrics", "applied", "peer"),
    "warren.peer.reporting-changed.v1": ("metrics", "reporting", "peer"),
}
_PARAMETERS = {
    "reader": f"One token: `all`, `tag=<tag>` or `peer=<id>` ({READER_PATTERN}).",
    "peer": f"Peer id ({NAME_PATTERN}).",
    "policy": f"Policy id ({NAME_PATTERN}).",
    "epoch": "The number of the new epoch.",
    "nkey": f"The public half of the caller's user nkey ({NKEY_PATTERN}).",
}
_AUDIENCES = {
    "event.": "operators",
    "rpc.agent": "agents",
    "rpc.enrol": "hosts that join",
    "rpc.": "services",
    "telemetry.": "agents",
    "": "agents and operators",  # documents
}
_SECURITY_SCHEMES = {
    "token": {
        "type": "apiKey", "in": "password",
        "description": "Operators and other systems: a bearer token (`warren token operator`) as the `auth_token` of NATS. Their"
        " inbox is `_INBOX.op.<name of the token>`.",
    },
    "nkey": {"type": "asymmetricEncryption", "description": "Agents: the nkey that was enrolled."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "Of the API: a bearer token in `Authorization`."},
    "session": {
        "type": "httpApiKey", "name": "__Host-warren", "in": "cookie",
        "description": "Of the API: the session of the web page, with an `Origin` of the server itself.",
    },
}  # fmt: skip
_SERVERS = {
    "bus": {
        "host": "localhost:4222", "protocol": "nats", "description": "The NATS servers of `warren up --bind`.",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("token", "nkey")],
    },
    "api": {
        "host": "localhost:8400", "protocol": "wss", "description": "The API server.",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("bearer", "session")],
    },
}  # fmt: skip
_LIVE_PATH = "/api/live"
_NAMES = {"type": "array", "items": {"type": "string", "pattern": NAME_PATTERN}, "maxItems": 32}
_LIVE_QUERY = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "peer": _NAMES, "tag": _NAMES, "policy": _NAMES,
        "state": {"type": "array", "items": {"type": "string", "enum": [state.value for state in TunnelState]}, "maxItems": 32},
        "cursor": {"type": "integer", "minimum": 0, "description": "Continue after this cursor of a message."},
    },
}  # fmt: skip
_SCHEMAS = "#/components/schemas/{model}"

Json = dict[str, Any]


def document() -> Json:
    """Build the AsyncAPI document."""
    channels, operations, messages = _state(), {}, {}
    channels |= _events() | _telemetry() | _live()
    for name in channels:
        operations[f"receive-{name}"] = {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}}
    for command in COMMANDS:
        _add_command(command, channels, operations)
    for model in released_models().values():
        messages[model.__name__] = _message(model)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Warren on NATS",
            "version": "1.0.0",
            "description": "Events are the interface: streams of signed documents, events and telemetry, and RPC. Next to them the live"
            " stream of the API, for pages and programs that do not use NATS.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _SERVERS,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "messageTraits": {"cloudEvent": {"headers": _CLOUD_EVENT}, "signed": {"headers": _SIGNED}},
            "schemas": _schemas(),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def text() -> str:
    """Serialize the document as `docs/asyncapi.json` stores it."""
    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _state() -> Json:
    return {
        "policy": _channel(
            f"{VERSION}.policy.{{reader}}", PolicySet, POLICY_PUBLISHED, signed=True, about=f"Stream {subjects.POLICY_STREAM}, "
            "last value per subject, republished under `live.`.",
        ),
        "directory": _channel(
            f"{VERSION}.directory.{{reader}}.{{peer}}", PeerRecord, DIRECTORY_PUBLISHED, signed=True,
            about=f"Stream {subjects.DIRECTORY_STREAM}: the current record of a peer, one copy for each reader that may see it.",
        ),
        "digest": _channel(
            f"{VERSION}.digest.{{reader}}", ReaderDigest, DIGEST_PUBLISHED, signed=True,
            about=f"Stream {subjects.DIRECTORY_STREAM}: the expected state of a reader, published every minute.",
        ),
        "trust": _channel(
            documents.TRUST_SUBJECT, TrustDocument, "", signed=True, about="The signing keys of each role. Embedded in other replies.",
        ),
    }  # fmt: skip


def _events() -> Json:
    channels = {}
    for event in EVENTS:
        source, kind, name = EVENT_ADDRESSES[event.TYPE]
        about = f"Stream {subjects.EVENT_STREAM}. {_summary(event)}"
        channels[f"event-{source}-{kind}"] = _channel(
            f"{VERSION}.event.{source}.{kind}.{{{name}}}", event, event.TYPE, about=about
        )
    return channels


def _telemetry_stream(kind: str) -> str:
    return subjects.PRESENCE_STREAM if kind == PRESENCE else subjects.TELEMETRY_STREAM


def _telemetry() -> Json:
    return {
        f"telemetry-{kind}": _channel(
            f"{VERSION}.telemetry.{{peer}}.{kind}", model, TELEMETRY_TYPES[kind],
            about=f"Stream {_telemetry_stream(kind)}. The subject identifies the sender. {_summary(model)}",
        )
        for kind, model in TELEMETRY.items()
    }  # fmt: skip


def _live() -> Json:
    """The fleet as a WebSocket; server-sent events on the same path have the same messages (docs/openapi.json)."""
    return {
        "live": {
            "address": _LIVE_PATH,
            "description": "A snapshot, `ready`, then every change, each a text frame; `{\"kind\":\"alive\"}` after 10 s without one."
            " Values of one parameter are alternatives. The client sends nothing. The server closes with the reason: 1013 and"
            " `slow-reader`, `reset` or `stopping`: connect again, with the last cursor (after `reset` without one); 4401: the"
            " token is no longer valid; 1008: the client sent something. A refusal is a Problem instead of the handshake.",
            "messages": {"LiveMessage": {"$ref": "#/components/messages/LiveMessage"}},
            "servers": [{"$ref": "#/servers/api"}],
            "bindings": {"ws": {"method": "GET", "query": _LIVE_QUERY, "bindingVersion": "0.1.0"}},
            "x-audience": "operators",
            "x-least-role": "viewer",
        }
    }  # fmt: skip


def _add_command(command: Command, channels: Json, operations: Json) -> None:
    places = {"agent": "rpc.agent.{peer}", "enrol": "rpc.enrol.{nkey}"}
    prefix = places.get(command.service, f"rpc.{command.service}")
    address = f"{VERSION}.{prefix}" if command.service == "enrol" else f"{VERSION}.{prefix}.{command.verb}"
    name = f"rpc-{command.service}-{command.verb}"
    channels[name] = _channel(address, command.request, "", about=f"Request. {_summary(command.request)}")
    if command.least_role is not None:
        channels[name]["x-audience"] = "operators"
        channels[name]["x-least-role"] = command.least_role.value
    replies = {
        model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in (command.reply, Problem)
    }
    channels[f"{name}-reply"] = {
        "address": None,
        "description": f"The reply, or a Problem ({CONTENT_TYPE}).",
        "messages": replies,
        "servers": [{"$ref": "#/servers/bus"}],
    }
    operations[name] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "reply": {"channel": {"$ref": f"#/channels/{name}-reply"}, "address": {"location": "$message.header#/reply"}},
    }


def _audience(address: str) -> str:
    """Whose connections NATS lets use a channel (`warren_service.permissions`)."""
    return next(who for prefix, who in _AUDIENCES.items() if address.startswith(f"{VERSION}.{prefix}"))


def _channel(address: str, model: type[BaseModel], kind: str, *, about: str, signed: bool = False) -> Json:
    message: Json = {"$ref": f"#/components/messages/{model.__name__}"}
    channel: Json = {"address": address, "description": about, "messages": {model.__name__: message}}
    channel["servers"] = [{"$ref": "#/servers/bus"}]
    channel["x-audience"] = _audience(address)
    parameters = {name: {"description": text} for name, text in _PARAMETERS.items() if f"{{{name}}}" in address}
    if parameters:
        channel["parameters"] = parameters
    if kind:
        channel["x-cloudevents-type"] = kind
    if signed:
        channel["x-signed"] = True
    return channel


def _message(model: type[BaseModel]) -> Json:
    message: Json = {"name": model.__name__, "payload": {"$ref": _SCHEMAS.format(model=model.__name__)}}
    message["summary"] = _summary(model)
    if model is Problem:
        message["contentType"] = CONTENT_TYPE
    kinds = [*EVENTS, *TELEMETRY.values(), PolicySet, PeerRecord, ReaderDigest]
    signed = (PolicySet, PeerRecord, ReaderDigest, documents.Whoami, documents.DirectoryPage)
    traits = [("cloudEvent", model in kinds), ("signed", model in signed)]
    used = [{"$ref": f"#/components/messageTraits/{name}"} for name, applies in traits if applies]
    return message | ({"traits": used} if used else {})


def _schemas() -> Json:
    models = [(model, "validation") for model in released_models().values()]
    _, schemas = models_json_schema(models, ref_template=_SCHEMAS)  # type: ignore[arg-type] # a list of literals
    definitions: Json = schemas["$defs"]
    return {name: _with_plain_discriminator(schema) for name, schema in definitions.items()}


def _with_plain_discriminator(schema: Any) -> Any:
    """AsyncAPI's discriminator is the name of a property (3.0, Schema Object); pydantic writes OpenAPI's object."""
    if isinstance(schema, list):
        return [_with_plain_discriminator(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value["propertyName"]
        if name == "discriminator" and isinstance(value, dict) and "propertyName" in value
        else _with_plain_discriminator(value)
        for name, value in schema.items()
    }


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _text_headers(**descriptions: str) -> Json:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": about} for name, about in descriptions.items()},
    }


_CLOUD_EVENT = _text_headers(
    **{
        "ce-specversion": "1.0",
        "ce-type": "The event type, such as `warren.policy.published.v1`.",
        "ce-source": "The sender, such as `/services/policy` or `/peers/gw1`.",
        "ce-id": "Random; equal to `Nats-Msg-Id`.",
        "ce-time": "RFC 3339.",
        "traceparent": "W3C trace context.",
    }
)
_SIGNED = _text_headers(
    **{
        documents.HEADER_SIGNATURE: "Base64 of an Ed25519 signature over subject, epoch, revision and payload.",
        documents.HEADER_SIGNER: "`root`, `policy` or `registry`.",
        documents.HEADER_EPOCH: "Decimal.",
        documents.HEADER_REVISION: "Decimal.",
    }
)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text())
    else:
        sys.stdout.write(text())
