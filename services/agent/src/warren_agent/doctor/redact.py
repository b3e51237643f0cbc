"""Removes secrets from what goes into a support bundle. Pure.

Two ways at once: every secret of this host that is known is replaced wherever it stands, in each of its spellings; and whatever looks
like a secret is replaced by its shape. A bundle with a word too few is a smaller harm than one with a key.
"""

import base64
import re
from collections.abc import Iterable

REMOVED = "<removed>"
MIN_SECRET = 8  # characters: shorter ones would remove ordinary words

_SHAPES = (
    re.compile(
        r"-----BEGIN [A-Z0-9 ]*(?:PRIVATE KEY|ENCRYPTED)[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL
    ),
    re.compile(r"\bw[a-z]\d_[a-z0-9_]{20,}"),  # join and operator tokens
    re.compile(r"\bS[UAONCWX][A-Z2-7]{56}\b"),  # seeds of nkeys
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"),  # JWT and JWE
    re.compile(r"(?i)\bbearer\s+[^\s\"',;]+"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # user:password of a URL
    re.compile(
        r"\b0s[A-Za-z0-9+/]{8,}={0,2}|\b0x[0-9a-fA-F]{16,}"
    ),  # secrets as swanctl writes them, keys of `ip xfrm`
)
# `secret = …`, `"password": "…"`, `PSK …`, `--token …`: the value up to the end of the word or of the quotes
_ASSIGNED = re.compile(
    r"(?i)(?P<name>[\w.-]*(?:secret|password|passwd|passphrase|psk|ppk|token|seed|private[_-]?key|credential|sealed|ciphertext"
    r"|auth-trunc|\benc\b|\baead\b|signature)[\w.-]*[\"']?)(?P<between>\s*[:=]\s*|\s+)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}\]]+)"
)
_PLAIN_WORD = re.compile(r"[a-z][a-z-]{0,20}[.,:;)]?|\d{1,6}|true|false|null|none|-|\{|\[", re.IGNORECASE)


def spellings(secret: bytes) -> set[str]:
    """A secret as text, in base64 and in hexadecimal, with and without its line feed."""
    found: set[str] = set()
    for raw in {secret, secret.strip()}:
        found |= {
            base64.b64encode(raw).decode().rstrip("="),
            base64.urlsafe_b64encode(raw).decode().rstrip("="),
            raw.hex(),
            raw.hex().upper(),
        }
        text = raw.decode(errors="ignore")
        if text.isprintable():
            found.add(text)
    return {it for it in found if len(it) >= MIN_SECRET}


def redacted(text: str, secrets: Iterable[bytes] = ()) -> str:
    """The text without secrets. `secrets` are those of this host."""
    known = {spelling for secret in secrets for spelling in spellings(secret)}
    for spelling in sorted(known, key=len, reverse=True):
        text = text.replace(spelling, REMOVED)
    for shape in _SHAPES:
        text = shape.sub(REMOVED, text)
    return _ASSIGNED.sub(_without_value, text)


def _without_value(match: "re.Match[str]") -> str:
    value, between = match["value"], match["between"]
    if value.strip("\"'") in ("", REMOVED) or (not between.strip() and _PLAIN_WORD.fullmatch(value)):
        return match[0]  # prose: `a token of …`
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match['name']}{between}{quote}{REMOVED}{quote}"
