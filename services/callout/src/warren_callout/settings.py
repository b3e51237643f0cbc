"""Settings of the auth callout; `docs/interfaces.md` has the table."""

from pathlib import Path

from pydantic import Field

from warren_service.process import ServiceSettings


class CalloutSettings(ServiceSettings):
    """The registry's database, read-only, and the issuer key that nats-server trusts.

    The password comes from PGPASSFILE, never from the URL.
    """

    postgres_dsn: str = Field(repr=False)
    issuer_key_file: Path
