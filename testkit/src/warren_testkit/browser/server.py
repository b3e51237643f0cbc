"""An API server with the web page, as an operator with its token file calls it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from warren_cli.remote.server_trust import ServerTrust


@dataclass(frozen=True)
class PageServer:
    """Where a running API server is, and the administrator's token."""

    url: str
    token: str = field(repr=False)
    token_file: Path

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """One call of the API. Raises httpx.HTTPStatusError."""
        trust = ServerTrust().next_to(self.token_file).context()
        headers = {"authorization": f"Bearer {token or self.token}"}
        with httpx.Client(base_url=self.url, headers=headers, verify=trust, trust_env=False, timeout=60) as client:
            reply = client.request(method, path, json=body)
            reply.raise_for_status()
            return reply.json()

    def sign_in_link(self, token: str = "") -> str:
        """A new link, for a token's role."""
        return f"{self.url}{self.call('POST', '/api/session/codes', token=token)['path']}"

    def operator_token(self, role: str, *scope: str) -> str:
        """The bearer token of a new operator with this role, for the gateways of some tags or for all."""
        body = {"name": f"{role}-{os.urandom(4).hex()}", "role": role, **({"scope": scope} if scope else {})}
        token: str = self.call("POST", "/api/operator-tokens", body)["token"]
        return token
