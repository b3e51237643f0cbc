"""Permissions of connections that the callout accepts.

Never granted to an agent: consumers, `multi_last` (`$JS.API.DIRECT.GET.<stream>` without a subject would read the documents
of every tag), stream information, wildcards over readers, `_R_`, `$SYS`.
"""

from dataclasses import dataclass
from typing import Any

from warren_bus.client_subjects import inbox, live_subjects, policy_get, secret_get
from warren_contracts import subjects, telemetry
from warren_contracts.commands import Role
from warren_contracts.names import is_name
from warren_contracts.verbs import COMMANDS, of_operators
from warren_trust.keys import KeyKind, decode_public

MAX_TAGS = 64  # of one peer: 3 subscriptions per reader stay well below the 512 that the account AGENTS allows

LIVE_OF_OPERATORS = ("policy", "directory", "digest", "event")
_AGENT_VERBS = tuple(command.verb for command in COMMANDS if command.service == "agent")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Allow lists; everything else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def claims(self) -> dict[str, Any]:
        """As the permission part of a user JWT."""
        return {"pub": {"allow": list(self.publish)}, "sub": {"allow": list(self.subscribe)}}


def agent(peer: str, tags: tuple[str, ...]) -> Permissions:
    """An enrolled peer's permissions; ValueError for an invalid name, or for more than MAX_TAGS tags."""
    if len(set(tags)) > MAX_TAGS:
        raise ValueError(f"a peer has at most {MAX_TAGS} tags")
    readers = subjects.readers_of(peer, tags)
    publish = (
        *(policy_get(reader) for reader in readers),
        secret_get(peer),
        *(subjects.telemetry(peer, kind) for kind in telemetry.KINDS),
        *(subjects.rpc_agent(peer, verb) for verb in _AGENT_VERBS),
    )
    return Permissions(publish, (*live_subjects(peer, tags), f"{inbox(peer)}.>"))


def enrolling(nkey: str) -> Permissions:
    """A connection with a join token, before enrolment: one RPC and its own inbox. Raises InvalidKeyError."""
    decode_public(nkey, KeyKind.USER)
    return Permissions((subjects.rpc_enrol(nkey),), (f"{inbox(nkey)}.>",))


def probing() -> Permissions:
    """A health probe of the callout: one subject that nobody uses, as an empty list would allow every one."""
    return Permissions(("$WARREN.probe",), ("$WARREN.probe",))


def operator(name: str, role: Role) -> Permissions:
    """A person or another system, placed in OPS: the verbs of its role, and what the streams republish.

    Never `secret`: sealed bundles are for their peer.
    """
    if not is_name(name):
        raise ValueError(f"invalid name {name!r}: 1 to 63 characters of a-z, 0-9, _ and -")
    publish = tuple(subjects.rpc(command.service, command.verb) for command in of_operators(role))
    live = (subjects.live(f"{subjects.VERSION}.{kind}.>") for kind in LIVE_OF_OPERATORS)
    return Permissions(publish, (*live, f"{inbox('op')}.{name}.>"))
