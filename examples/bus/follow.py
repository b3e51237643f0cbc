"""Follow a Warren fleet on its bus, without Warren's libraries: nats-py and PyNaCl.

    python follow.py --nats tls://bus.example.net:4222 --ca warren-ca.pem --name grafana --token-file grafana.token \\
        --root "$(warren trust --json | jq -r .root)" [--propose policy.json] [--after 1234] [--changes 10]

It verifies the trust document by the pinned root key and a policy set by the key that the document names, proposes a policy (a dry
run first), and prints each change of a tunnel as one JSON line, none lost and none twice: live ones, and after a reconnect or from
`--after` on the stored ones. docs/systems.md describes every step.
"""

import argparse
import asyncio
import base64
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import nats
from nacl.signing import VerifyKey
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import SlowConsumerError

TUNNEL_EVENTS = "$JS.ACK.live.warren.v1.event.metrics.tunnel.>"


class RefusedError(Exception):
    """A service refused a call: the text is the problem's."""


async def call(client: Client, subject: str, request: dict[str, Any]) -> Any:
    """One RPC: JSON in, JSON out; an error is a problem document (RFC 9457)."""
    reply = await client.request(subject, json.dumps(request).encode(), timeout=5)
    answer = json.loads(reply.data)
    if (reply.headers or {}).get("content-type") == "application/problem+json":
        raise RefusedError(answer["detail"] if answer.get("detail") else answer["title"])
    return answer


def verify(document: dict[str, Any], key: str) -> Any:
    """The payload of a signed document; nacl's BadSignatureError if this key (base64) did not sign it."""
    signed = "\n".join(
        (
            "warren-document-v1",
            document["subject"],
            str(document["epoch"]),
            str(document["revision"]),
            document["payload"],
        )
    )
    VerifyKey(base64.b64decode(key)).verify(signed.encode(), base64.b64decode(document["signature"]))
    return json.loads(document["payload"])


async def verified_keys(client: Client, root: str) -> dict[str, Any]:
    """The signing keys and the epoch, as the root that we pinned signed them."""
    reply = await call(client, "warren.v1.rpc.registry.trust", {})
    if reply["trust"]["subject"] != "warren.v1.trust":
        raise RefusedError("this is not a trust document")
    return verify(reply["trust"], root)


class PolicySets:
    """Prints the policy set of a reader (`all`, `tag=<tag>`, `peer=<id>`): the stored one, and each that is published later."""

    def __init__(self, reader: str, keys: dict[str, Any]) -> None:
        self.subject = f"warren.v1.policy.{reader}"
        self._reader = reader
        self._keys = keys
        self._revision = 0

    async def read(self, client: Client) -> None:
        try:
            self._take(await call(client, "warren.v1.rpc.policy.published_set", {"reader": self._reader}))
        except RefusedError as error:
            show("no set", reader=self._reader, detail=str(error))

    async def live(self, message: Msg) -> None:
        """A published message: its signature is in headers, and covers the subject on which it is stored."""
        headers = message.headers or {}
        self._take(
            {
                "subject": headers["Nats-Subject"], "epoch": int(headers["Warren-Epoch"]), "payload": message.data.decode(),
                "revision": int(headers["Warren-Revision"]), "signature": headers["Warren-Signature"],
            }
        )  # fmt: skip

    def _take(self, document: dict[str, Any]) -> None:
        if document["subject"] != self.subject or document["epoch"] != self._keys["epoch"]:
            raise RefusedError(f"this is not the current set of {self._reader}")  # of a new epoch: read the keys again
        found = verify(document, self._keys["policy"])
        if document["revision"] > self._revision:
            self._revision = document["revision"]
            show("set", reader=self._reader, policies=[published["policy"]["id"] for published in found["policies"]])


async def propose(client: Client, policy: dict[str, Any]) -> None:
    """Print what the policy would do to each tunnel, then store it."""
    command = {"policies": [policy]}
    tried = await call(client, "warren.v1.rpc.policy.apply", {**command, "dry_run": True})
    show("proposed", effects=tried["effects"], warnings=tried["warnings"])
    stored = await call(client, "warren.v1.rpc.policy.apply", command)
    show("stored", revision=stored["revision"], versions=stored["versions"])


class Follower:
    """Prints each stored event once and in order: live ones, and pages of stored ones where live ones were missed."""

    def __init__(self, after: int | None) -> None:
        self._after = after
        self._behind = True  # live events are ignored until the stored ones are read
        self._reading = asyncio.Lock()
        self.printed = 0
        self.changed = asyncio.Event()  # something was printed, or is missed

    async def missed(self, error: Exception | None = None) -> None:
        """Called where live events may be lost: after a reconnect, and when this client was too slow."""
        if error is None or isinstance(error, SlowConsumerError):
            self._behind = True
            self.changed.set()

    async def catch_up(self, client: Client) -> None:
        """Read the stored events after the last one. Live ones that arrive meanwhile wait, and repeat nothing."""
        async with self._reading:
            more, self._behind = self._behind, False
            while more:
                page = await call(client, "warren.v1.rpc.policy.events", {"after": self._after, "kind": "tunnel"})
                if page["missed"]:
                    show("missed", after=self._after)  # they have expired: the list of tunnels has the state of now
                for stored in page["events"]:
                    self._print(stored["event"])
                self._after, more = page["next_after"], page["more"]

    async def live(self, message: Msg) -> None:
        headers = message.headers or {}
        sequence = int(headers["Nats-Sequence"])
        async with self._reading:
            if self._behind or self._after is None or sequence <= self._after:
                return
            self._print({"time": headers["ce-time"], "sequence": sequence, "data": json.loads(message.data)})
            self._after = sequence

    def _print(self, event: dict[str, Any]) -> None:
        data = event["data"]
        show(
            "changed", sequence=event["sequence"], at=event["time"], tunnel=data["tunnel"], seen_by=data["peer"],
            state=data["state"], reason=data["status"]["reason"],
        )  # fmt: skip
        self.printed += 1
        self.changed.set()


def show(what: str, **fields: Any) -> None:
    print(json.dumps({"what": what, **fields}), flush=True)


async def main(options: argparse.Namespace) -> None:
    follower = Follower(options.after)
    context = ssl.create_default_context(cafile=options.ca) if options.ca else None
    client = await nats.connect(
        options.nats.split(","), name=options.name, token=options.token_file.read_text().strip(),
        inbox_prefix=f"_INBOX.op.{options.name}", max_reconnect_attempts=-1,
        reconnected_cb=follower.missed, error_cb=follower.missed, tls=context, tls_handshake_first=context is not None,
    )  # fmt: skip
    try:
        keys = await verified_keys(client, options.root)
        show("trusted", epoch=keys["epoch"])
        await client.subscribe(TUNNEL_EVENTS, cb=follower.live)
        await follower.catch_up(client)
        for reader in options.reader:
            sets = PolicySets(reader, keys)
            await client.subscribe(f"$JS.ACK.live.{sets.subject}", cb=sets.live)
            await sets.read(client)
        if options.propose:
            await propose(client, json.loads(options.propose.read_text()))
        listed = await call(client, "warren.v1.rpc.metrics.tunnels", {})
        show("tunnels", **{tunnel["name"]: tunnel["state"] for tunnel in listed["tunnels"]})
        while options.changes is None or follower.printed < options.changes:
            await follower.changed.wait()
            follower.changed.clear()
            await follower.catch_up(client)
    finally:
        await client.close()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", required=True, help="servers by comma")
    parser.add_argument("--ca", help="file with the CA of the control plane")
    parser.add_argument("--name", required=True, help="name of the token: it is part of the inbox")
    parser.add_argument("--token-file", required=True, type=Path)
    parser.add_argument("--root", required=True, help="public key of the trust root: `warren trust`")
    parser.add_argument(
        "--reader", action="append", default=[], help="follow the policy set of all, tag=<tag> or peer=<id>"
    )
    parser.add_argument("--propose", type=Path, help="a policy as JSON; needs the role operator")
    parser.add_argument("--after", type=int, help="continue after this sequence; default: from now on")
    parser.add_argument("--changes", type=int, help="end after so many changes")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main(parsed()))
    except KeyboardInterrupt:
        pass
    except (RefusedError, OSError, nats.errors.Error, TimeoutError) as error:
        sys.exit(f"follow: {error}")
