"""The line of a field in a YAML text, for error messages. Pure."""

from collections.abc import Sequence

import yaml


def line_of(text: str, document: int, field: str) -> int | None:
    """The line (from 1) of a field such as `tunnels/3/ends/0/subnets/1` in a document (from 1) of a text that has been read.

    A field that is absent is shown at the mapping that should hold it.
    """
    nodes = list(yaml.compose_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    if not 0 < document <= len(nodes) or nodes[document - 1] is None:
        return None
    node: yaml.Node = nodes[document - 1]
    line: int = node.start_mark.line
    for part in field.split("/"):
        found = _child(node, part)
        if found is None:
            break
        line, node = found
    return line + 1


def _child(node: yaml.Node, part: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == part:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        entry = node.value[int(part)]
        return entry.start_mark.line, entry
    return None


def owner_of(document: object, field: str) -> str:
    """The name of the tunnel that a field belongs to (`tunnel berlin`); empty for other fields."""
    parts: Sequence[str] = field.split("/")
    if len(parts) < 2 or parts[0] != "tunnels" or not isinstance(document, dict):
        return ""
    tunnels = document.get("tunnels")
    if not isinstance(tunnels, list) or not parts[1].isdigit() or int(parts[1]) >= len(tunnels):
        return ""
    tunnel = tunnels[int(parts[1])]
    name = tunnel.get("name") if isinstance(tunnel, dict) else None
    return f"tunnel {name[:63]}" if isinstance(name, str) else ""
