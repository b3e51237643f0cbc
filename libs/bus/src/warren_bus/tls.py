"""TLS of a client: one place that builds its context.

Only the CAs of the deployment are trusted, never the system's: those would let any public CA vouch for a bus server, and loading them
costs 0.5 MB. The server's name is compared with the name in the configured URL.
"""

import ssl

from warren_bus.errors import InvalidSettingError

MIN_VERSION = ssl.TLSVersion.TLSv1_3
_BEGIN = "-----BEGIN CERTIFICATE-----"


def client_context(authorities: str) -> ssl.SSLContext:
    """A context that trusts only the CA certificates (PEM) in `authorities`.

    Raises:
        InvalidSettingError: there is no certificate in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the certificate and the name
    context.minimum_version = MIN_VERSION
    try:
        context.load_verify_locations(cadata=authorities)
        count = len(context.get_ca_certs(binary_form=True))
    except (ssl.SSLError, ValueError):
        count = 0
    if not count:
        raise InvalidSettingError({"WARREN_CA_FILE": f"must contain the bus's CA certificates as PEM ({_BEGIN})"})
    return context
