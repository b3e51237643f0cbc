"""Settings of the auth callout; `docs/interfaces.md` has the table."""

from pathlib import Path

from warren_service.process import ServiceSettings
from warren_store.settings import PostgresSettings


class CalloutSettings(PostgresSettings, ServiceSettings):
    """The registry's database, read-only, and the issuer key that nats-server trusts.

    The password comes from PGPASSFILE, never from the URL.
    """

    issuer_key_file: Path
