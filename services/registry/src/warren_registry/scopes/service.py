"""List the peers of a scope."""

from warren_contracts.scope import ListScopedPeers, ScopedPeers
from warren_registry.ports import Tables


async def list_scoped_peers(tables: Tables, page: ListScopedPeers) -> ScopedPeers:
    """A page of the peers that carry a tag of the scope, and since when."""
    rows = await tables.scopes.holders(page.scope, page.after, page.limit)
    return ScopedPeers(peers=dict(rows), next_after=rows[-1][0] if len(rows) == page.limit else None)
