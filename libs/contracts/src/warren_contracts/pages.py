"""Limit a page of a listing to the size of one message."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

MAX_PAGE_BYTES = 800_000  # of JSON: the server's max_payload of 1 MB less the other fields, and margin

EntryT = TypeVar("EntryT", bound=BaseModel)


def fit_page(
    entries: Sequence[EntryT], limit: int = MAX_PAGE_BYTES, *, exclude_defaults: bool = False
) -> tuple[EntryT, ...]:
    """The first entries that fit into `limit` bytes of JSON; at least one, so that the listing makes progress."""
    size = 0
    for number, entry in enumerate(entries):
        size += len(entry.model_dump_json(exclude_defaults=exclude_defaults).encode()) + 1
        if size > limit and number:
            return tuple(entries[:number])
    return tuple(entries)
