"""A PowerShell script for Windows's own client. Pure.

The script is the same for everybody; its data is one line of ASCII JSON in a here-string, which no value can end. So nothing that
a name or a certificate holds is ever parsed as PowerShell.

Sources: Microsoft's documentation of the module VpnClient (Add-VpnConnection, Set-VpnConnectionIPsecConfiguration,
Add-VpnConnectionRoute, New-EapConfiguration) and of PKI (Import-Certificate, Import-PfxCertificate).
"""

import base64
import json

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from warren_vpn.profiles.facts import BuiltProfile, ProfileFile, Secrets, ServerFacts, UnsuitableProfileError
from warren_vpn.users.certificate import build_pkcs12
from warren_vpn.users.model import User

_DATA = "@DATA@"
_SCRIPT = """\
#Requires -Version 5.1
#Requires -RunAsAdministrator
# Adds the VPN connection below to Windows. Run it in a PowerShell that was started as administrator.
$ErrorActionPreference = 'Stop'
$data = @'
@DATA@
'@ | ConvertFrom-Json

function Save-Temporary([string]$text, [string]$suffix) {
    $path = Join-Path ([IO.Path]::GetTempPath()) ([Guid]::NewGuid().ToString() + $suffix)
    [IO.File]::WriteAllBytes($path, [Convert]::FromBase64String($text))
    return $path
}

$file = Save-Temporary $data.authority '.cer'
try {
    $authority = Import-Certificate -FilePath $file -CertStoreLocation 'Cert:\\LocalMachine\\Root'
} finally {
    Remove-Item -LiteralPath $file
}

if ($data.pkcs12) {
    $passphrase = Read-Host -AsSecureString -Prompt 'Passphrase of the key'
    $file = Save-Temporary $data.pkcs12 '.pfx'
    try {
        Import-PfxCertificate -FilePath $file -CertStoreLocation 'Cert:\\LocalMachine\\My' -Password $passphrase | Out-Null
    } finally {
        Remove-Item -LiteralPath $file
    }
}

$old = Get-VpnConnection -Name $data.name -AllUserConnection -ErrorAction 'SilentlyContinue'
if ($old) {
    Remove-VpnConnection -Name $data.name -AllUserConnection -Force
}

$connection = @{
    Name = $data.name
    ServerAddress = $data.server
    TunnelType = 'Ikev2'
    EncryptionLevel = 'Maximum'
    AllUserConnection = $true
    SplitTunneling = $data.split
    Force = $true
}
if ($data.method -eq 'certificate') {
    $connection.AuthenticationMethod = 'MachineCertificate'
    $connection.MachineCertificateIssuerFilter = $authority
} else {
    $eap = New-EapConfiguration
    $connection.AuthenticationMethod = 'Eap'
    $connection.EapConfigXmlStream = $eap.EapConfigXmlStream
}
if ($data.suffix) {
    $connection.DnsSuffix = $data.suffix
}
Add-VpnConnection @connection

$suite = @{
    ConnectionName = $data.name
    AuthenticationTransformConstants = 'GCMAES256'
    CipherTransformConstants = 'GCMAES256'
    EncryptionMethod = 'GCMAES256'
    IntegrityCheckMethod = 'SHA384'
    DHGroup = 'ECP256'
    PfsGroup = 'ECP256'
    AllUserConnection = $true
    Force = $true
}
Set-VpnConnectionIPsecConfiguration @suite

foreach ($route in $data.routes) {
    Add-VpnConnectionRoute -ConnectionName $data.name -DestinationPrefix $route -AllUserConnection
}
Write-Output ('Connection ' + $data.name + ' is ready: rasphone -d "' + $data.name + '"')
"""


def build(facts: ServerFacts, user: User, secrets: Secrets) -> BuiltProfile:
    """The script. UnsuitableProfileError: the user has neither a certificate given `--with-key` nor an NT hash."""
    facts.require_standard_ports("Windows's client")
    authority = x509.load_pem_x509_certificates(facts.required_authority("Windows's client").encode())[0]
    data: dict[str, object] = {
        "name": facts.name,
        "server": facts.servers[0].host,
        "authority": base64.b64encode(authority.public_bytes(Encoding.DER)).decode(),
        "method": "eap-mschapv2",
        "split": not facts.is_full_tunnel,
        "suffix": facts.search_domains[0] if facts.search_domains else "",
        "routes": _routes(facts),
        "pkcs12": "",
    }
    secret = secrets.certificate is not None and secrets.passphrase is not None
    if secrets.certificate is not None and secrets.passphrase is not None:
        pfx = build_pkcs12(secrets.certificate, user.name, secrets.passphrase)
        data |= {"method": "certificate", "pkcs12": base64.b64encode(pfx).decode()}
    elif user.nt_hash is None:
        raise UnsuitableProfileError(
            f"Windows's client needs a certificate (--certificate FILE --with-key), or an NT hash (warren vpn user passwd"
            f" {user.name} --mschapv2); it has no EAP-GTC"
        )
    name = f"{facts.name}-{user.name}.ps1"
    script = _SCRIPT.replace(_DATA, json.dumps(data, separators=(",", ":"), ensure_ascii=True))
    steps = [f"run {name} in a PowerShell started as administrator", f"connect: rasphone -d {facts.name}"]
    if secret:
        steps.insert(1, "the script asks for the passphrase of the key")
    return BuiltProfile((ProfileFile(name, script.replace("\n", "\r\n").encode("ascii"), secret),), tuple(steps))


def _routes(facts: ServerFacts) -> list[str]:
    """Of a split tunnel. A full tunnel needs ::/0 as well, for which Windows adds no route by itself."""
    if facts.is_full_tunnel:
        return [str(network) for network in facts.routes if network.version == 6]
    return [str(network) for network in facts.routes]
