"""`python -m warren_policy.verify_audit`: prove the audit log of the database that WARREN_POSTGRES_DSN names.

Prints the number of rows and the hash of the last one, which an auditor may keep: a later log must still contain it. Exit
code 1 names the first row that does not fit.
"""

from warren_process.lean_start import without_pretty_tracebacks

if __name__ == "__main__":
    without_pretty_tracebacks()

import asyncio
import os
import sys

from warren_contracts.problems import UnavailableError
from warren_policy.adapters.postgres import PostgresPolicies, make_store
from warren_policy.domain.audit import verify
from warren_policy.errors import AuditChainBrokenError


async def _verify(dsn: str) -> str:
    async with make_store(dsn) as store:
        rows, head = await PostgresPolicies(store).audit()
    return f"{verify(rows, head)} rows, {head.hash.hex()}"


def main() -> int:
    """Verify and print the result; returns the exit code."""
    dsn = os.environ.get("WARREN_POSTGRES_DSN")
    if not dsn:
        print("verify_audit: WARREN_POSTGRES_DSN is not set", file=sys.stderr)
        return 2
    try:
        print(asyncio.run(_verify(dsn)))
    except (AuditChainBrokenError, UnavailableError) as error:
        print(f"verify_audit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
