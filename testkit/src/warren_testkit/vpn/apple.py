"""Checks a payload of a configuration profile against Apple's schema (github.com/apple/device-management, MIT).

Rules that the schema states only in prose are in `prose_faults`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "<string>": str,
    "<integer>": int,
    "<boolean>": bool,
    "<array>": list,
    "<dictionary>": dict,
    "<data>": bytes,
    "<real>": (int, float),
}
_COMMON = frozenset(
    {"PayloadType", "PayloadVersion", "PayloadIdentifier", "PayloadUUID", "PayloadDisplayName", "PayloadDescription"}
)
Schema = Sequence[Mapping[str, Any]]


def schema_faults(payload: Mapping[str, Any], schema: Schema, path: str = "", own: bool = True) -> Iterator[str]:
    """The faults of a dictionary; none: it is valid. `own`: it is the payload itself, with the keys of every payload."""
    known = {entry["key"]: entry for entry in schema}
    for key, value in payload.items():
        if key in known:
            yield from _value_faults(value, known[key], f"{path}{key}")
        elif not own or key not in _COMMON:
            yield f"{path}{key}: unknown key"
    for key, entry in known.items():
        if entry.get("presence") == "required" and key not in payload:
            yield f"{path}{key}: required"


def _value_faults(value: Any, entry: Mapping[str, Any], path: str) -> Iterator[str]:
    wanted = _TYPES[entry["type"]]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        yield f"{path}: {type(value).__name__}, must be {entry['type']}"
        return
    if "rangelist" in entry and value not in entry["rangelist"]:
        yield f"{path}: {value!r}, must be one of {entry['rangelist']}"
    limits = entry.get("range", {})
    if "min" in limits and not limits["min"] <= value <= limits["max"]:
        yield f"{path}: {value}, must be {limits['min']} to {limits['max']}"
    if isinstance(value, dict) and entry.get("subkeys"):
        yield from schema_faults(value, entry["subkeys"], f"{path}.", own=False)
    if isinstance(value, list) and entry.get("subkeys"):
        for number, item in enumerate(value):
            yield from _value_faults(item, entry["subkeys"][0], f"{path}[{number}]")


def prose_faults(profile: Mapping[str, Any]) -> Iterator[str]:
    """The faults of a whole profile by the rules of prose: references, and keys that need others."""
    payloads = profile["PayloadContent"]
    numbers = [payload["PayloadUUID"] for payload in (profile, *payloads)]
    if len(set(numbers)) != len(numbers):
        yield "PayloadUUID: twice the same"
    for payload in payloads:
        if payload["PayloadType"] != "com.apple.vpn.managed":
            continue
        ikev2 = payload["IKEv2"]
        keys = [other["PayloadUUID"] for other in payloads if other["PayloadType"] == "com.apple.security.pkcs12"]
        if ikev2["AuthenticationMethod"] == "Certificate" and ikev2.get("PayloadCertificateUUID") not in keys:
            yield "IKEv2.PayloadCertificateUUID: no PKCS #12 of this profile"
        if ikev2["AuthenticationMethod"] == "None" and ikev2.get("ExtendedAuthEnabled") != 1:
            yield "IKEv2.ExtendedAuthEnabled: None falls back to a shared secret without it"
        if "CertificateType" in ikev2 and not ikev2.get("ServerCertificateIssuerCommonName"):
            yield "IKEv2.ServerCertificateIssuerCommonName: required with CertificateType"
        if "DiffieHellmanGroup" in ikev2.get("ChildSecurityAssociationParameters", {}) and not ikev2.get("EnablePFS"):
            yield "IKEv2.EnablePFS: the group of the child is ignored without it"
