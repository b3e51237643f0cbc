"""Look-ups in the dictionaries of a fake."""

from typing import TypeVar

from warren_contracts.problems import NotFoundError

EntryT = TypeVar("EntryT")


def found(held: dict[str, EntryT], name: str, what: str) -> EntryT:
    """An entry by its name. NotFoundError: there is none."""
    if name not in held:
        raise NotFoundError(f"there is no {what} {name}")
    return held[name]


def page_of(held: dict[str, EntryT], after: str, limit: int) -> tuple[tuple[EntryT, ...], str | None]:
    """The entries after a name, and the name after which the next page begins; None: there is no next page."""
    names = [name for name in sorted(held) if name > after]
    chosen = names[:limit]
    return tuple(held[name] for name in chosen), chosen[-1] if len(names) > limit else None
