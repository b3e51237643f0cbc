"""Pages that fit into one message: a listing is cut by bytes as well as by number."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

MAX_PAGE_BYTES = 800_000  # of JSON: the server's max_payload of 1 MB less what stands beside the entries, and margin

EntryT = TypeVar("EntryT", bound=BaseModel)


def fit_page(entries: Sequence[EntryT], limit: int = MAX_PAGE_BYTES) -> tuple[EntryT, ...]:
    """As many of the first entries as fit into `limit` bytes of JSON; one at least, so that a listing goes on."""
    size = 0
    for number, entry in enumerate(entries):
        size += len(entry.model_dump_json().encode()) + 1
        if size > limit and number:
            return tuple(entries[:number])
    return tuple(entries)
