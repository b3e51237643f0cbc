"""Header names differ in case from one writer to another; NATS keeps them as they are."""

from collections.abc import Mapping


def header(headers: Mapping[str, str] | None, name: str) -> str:
    """A header's value whatever the case of its name; empty when it is absent."""
    if not headers:
        return ""
    if name in headers:
        return headers[name]
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), "")
