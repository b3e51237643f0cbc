"""Pages of a reader's records."""

from warren_contracts.documents import MAX_PAGE_RECORDS, DirectoryPage, DirectoryPageRequest
from warren_contracts.pages import fit_page
from warren_registry.ports import Tables


async def read_page(tables: Tables, request: DirectoryPageRequest) -> DirectoryPage:
    """Return the records of a reader after a peer id, as many as fit into one message."""
    state = await tables.fleet.state()
    found = await tables.directory.page(request.reader, request.after, MAX_PAGE_RECORDS)
    records = fit_page(found)
    more = len(records) < len(found) or len(found) == MAX_PAGE_RECORDS
    return DirectoryPage(
        reader=request.reader,
        after=request.after,
        epoch=state.epoch,
        revision=state.revision,
        records=records,
        next_after=records[-1].subject.rsplit(".", 1)[-1] if more else None,
    )
