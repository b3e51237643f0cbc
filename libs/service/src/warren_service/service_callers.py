"""Verify the signed calls of services (`warren_bus.service_calls`): who calls, whether it may, and that it is not a repeat."""

import base64
import binascii
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from warren_bus.headers import HEADER_REQUEST_INFO, header
from warren_bus.service_calls import (
    HEADER_CALL,
    HEADER_CALL_SIGNATURE,
    HEADER_CALLER,
    HEADER_DEADLINE,
    signed_bytes,
)
from warren_contracts.problems import ForbiddenError
from warren_trust.errors import InvalidSignatureError
from warren_trust.keys import raw_public_key, verify

# Who may call a verb; `*` stands for every other verb of the service. Mirrored by the publish permissions in the server's file.
CALLERS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "policy": {"*": frozenset({"api"}), "follow_epoch": frozenset({"registry"})},
    "registry": {"*": frozenset({"api"}), "directory": frozenset({"api", "policy", "metrics"})},
    "metrics": {"*": frozenset({"api"})},
}
LONGEST_S = 120.0  # of a deadline: so long an id is remembered
_CALL = re.compile(r"[0-9a-f]{32}")
_DEADLINE = re.compile(r"[0-9]{1,15}")


class ServiceCallers:
    """Verifies calls. `keys`: the public key of each service's calls, base64, by its name; without any, every call is refused."""

    def __init__(self, keys: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        self._names = {key: name for name, key in keys.items()}
        self._clock = clock
        self._calls: OrderedDict[str, float] = OrderedDict()  # id -> when it was received

    def verify(self, subject: str, headers: Mapping[str, str] | None, payload: bytes) -> str:
        """The name of the calling service. Raises ForbiddenError: no service, not allowed to, or a repeated call."""
        name = self._names.get(header(headers, HEADER_CALLER), "")
        call, deadline = header(headers, HEADER_CALL), header(headers, HEADER_DEADLINE)
        named = any(field.lower() == HEADER_REQUEST_INFO.lower() for field in headers or {})
        if not name or named or not _CALL.fullmatch(call) or not _DEADLINE.fullmatch(deadline):
            raise ForbiddenError("only services call this: the call is not signed by one")
        signature = _signature(header(headers, HEADER_CALL_SIGNATURE))
        try:
            verify(
                raw_public_key(header(headers, HEADER_CALLER)),
                signed_bytes(subject, call, deadline, payload),
                signature,
            )
        except InvalidSignatureError:
            raise ForbiddenError("only services call this: the signature of the call is invalid") from None
        service, _, verb = subject.rpartition(".rpc.")[2].partition(".")
        verbs = CALLERS.get(service, {})
        if name not in verbs.get(verb, verbs.get("*", frozenset())):
            raise ForbiddenError(f"the service {name} may not call {service}.{verb}")
        self._remember(call, deadline)
        return name

    def _remember(self, call: str, deadline: str) -> None:
        now = self._clock()
        if int(deadline) / 1_000 - now > LONGEST_S:
            raise ForbiddenError(
                f"the deadline of the call is more than {LONGEST_S:g} s ahead: compare the hosts' clocks"
            )
        while self._calls and next(iter(self._calls.values())) < now - 2 * LONGEST_S:
            self._calls.popitem(last=False)
        if call in self._calls:
            raise ForbiddenError("the call was received before: a repeated call needs an id of its own")
        self._calls[call] = now


def _signature(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
