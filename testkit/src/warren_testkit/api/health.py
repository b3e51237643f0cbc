"""What the services behind the fake bus say of their health."""

from collections.abc import Mapping

from warren_contracts.commands import Health


def health_of_service(remarks: Mapping[str, str]) -> Health:
    """Ready, with a detail and these remarks."""
    return Health(
        service="fake", ready=True, dependencies={"postgres": True}, detail={"postgres": "17.2"}, remarks=dict(remarks)
    )


def health_of_restored_service() -> Health:
    """It waits for a new epoch."""
    words = {"epoch": "the database is older than what was published: warren epoch advance"}
    return Health(service="fake", ready=False, dependencies={"postgres": True, "epoch": False}, detail=words)
