"""Checks a PowerShell script: its syntax by tree-sitter, and each cmdlet, parameter and enumerated value by a table.

The table holds what the scripts of this project use, from Microsoft's documentation of Windows PowerShell 5.1
(docset winserver2025-ps and the core modules). The parser accepts many unknown names; the table is the real check.
"""

import re
from collections.abc import Iterator, Mapping

import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

CMDLETS: Mapping[str, frozenset[str]] = {
    name: frozenset(parameters.split())
    for name, parameters in {
        "ConvertFrom-Json": "",
        "Join-Path": "",
        "Out-Null": "",
        "Write-Output": "",
        "Remove-Item": "LiteralPath",
        "Read-Host": "AsSecureString Prompt",
        "New-EapConfiguration": "",
        "Import-Certificate": "FilePath CertStoreLocation",
        "Import-PfxCertificate": "FilePath CertStoreLocation Password",
        "Get-VpnConnection": "Name AllUserConnection ErrorAction",
        "Remove-VpnConnection": "Name AllUserConnection Force",
        "Add-VpnConnection": (
            "Name ServerAddress TunnelType EncryptionLevel AuthenticationMethod EapConfigXmlStream AllUserConnection"
            " SplitTunneling DnsSuffix MachineCertificateIssuerFilter Force"
        ),
        "Add-VpnConnectionRoute": "ConnectionName DestinationPrefix AllUserConnection",
        "Set-VpnConnectionIPsecConfiguration": (
            "ConnectionName AuthenticationTransformConstants CipherTransformConstants EncryptionMethod IntegrityCheckMethod"
            " DHGroup PfsGroup AllUserConnection Force"
        ),
    }.items()
}
VALUES: Mapping[str, frozenset[str]] = {
    name: frozenset(values.split())
    for name, values in {
        "TunnelType": "Pptp L2tp Sstp Ikev2 Automatic",
        "EncryptionLevel": "NoEncryption Optional Required Maximum Custom",
        "AuthenticationMethod": "Pap Chap MSChapv2 Eap MachineCertificate",
        "AuthenticationTransformConstants": "MD596 SHA196 SHA256128 GCMAES128 GCMAES192 GCMAES256 None",
        "CipherTransformConstants": "DES DES3 AES128 AES192 AES256 GCMAES128 GCMAES192 GCMAES256 None",
        "EncryptionMethod": "DES DES3 AES128 AES192 AES256 GCMAES128 GCMAES256",
        "IntegrityCheckMethod": "MD5 SHA1 SHA256 SHA384",
        "DHGroup": "None Group1 Group2 Group14 ECP256 ECP384 Group24",
        "PfsGroup": "None PFS1 PFS2 PFS2048 ECP256 ECP384 PFSMM PFS24",
    }.items()
}
_ASSIGNMENT = re.compile(r"^ *(?:\$\w+\.)?(\w+) = '([^']*)'", re.MULTILINE)


def syntax_faults(script: str) -> list[str]:
    """The lines that do not parse."""
    tree = Parser(Language(tree_sitter_powershell.language())).parse(script.encode())
    return [f"line {node.start_point[0] + 1}" for node in _walk(tree.root_node) if node.is_error or node.is_missing]


def name_faults(script: str) -> Iterator[str]:
    """Cmdlets, parameters and enumerated values that the table does not hold."""
    tree = Parser(Language(tree_sitter_powershell.language())).parse(script.encode())
    own = set(re.findall(r"^function ([\w-]+)", script, re.MULTILINE))
    for node in _walk(tree.root_node):
        if node.type != "command":
            continue
        name = _text(node.child_by_field_name("command_name"))
        if name in own:
            continue
        if name not in CMDLETS:
            yield f"unknown cmdlet {name}"
            continue
        for parameter in _walk(node):
            if parameter.type == "command_parameter" and _owner(parameter) == node:
                given = _text(parameter).removeprefix("-")
                if given not in CMDLETS[name]:
                    yield f"{name}: unknown parameter {given}"
    for parameter, value in _ASSIGNMENT.findall(script):
        if parameter in VALUES and value not in VALUES[parameter]:
            yield f"{parameter}: unknown value {value}"


def splatted_keys(script: str, variable: str) -> set[str]:
    """The keys of a hashtable that is splatted: `$name = @{...}` and `$name.Key = ...`."""
    body = re.search(rf"^\${variable} = @\{{\n(.*?)^\}}", script, re.MULTILINE | re.DOTALL)
    assert body is not None, f"no hashtable ${variable}"
    return set(re.findall(r"^ *(\w+) =", body[1], re.MULTILINE)) | set(
        re.findall(rf"^ *\${variable}\.(\w+) =", script, re.MULTILINE)
    )


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _owner(node: Node) -> Node | None:
    """The command that a parameter belongs to."""
    parent = node.parent
    while parent is not None and parent.type != "command":
        parent = parent.parent
    return parent


def _text(node: Node | None) -> str:
    return "" if node is None or node.text is None else node.text.decode()
