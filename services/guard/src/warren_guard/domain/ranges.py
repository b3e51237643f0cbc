"""Ranges of addresses as whole numbers: union, difference, and products without overlap. Pure.

A set of nftables refuses overlapping elements, and its concatenations refuse nested ones (nft_set_pipapo), so what is given to
it is disjoint.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

Range = tuple[int, int]  # first and last, both included
Product = tuple[Range, tuple[Range, ...]]  # local, and all remote ranges that belong to it


def union(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same numbers as disjoint ranges in order; adjacent ones are joined."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def difference(ranges: Iterable[Range], without: Iterable[Range]) -> tuple[Range, ...]:
    """The numbers of `ranges` that are not in `without`."""
    holes = union(without)
    found: list[Range] = []
    for first, last in union(ranges):
        start = first
        for hole_first, hole_last in holes:
            if hole_last < start or hole_first > last:
                continue
            if hole_first > start:
                found.append((start, hole_first - 1))
            start = hole_last + 1
        if start <= last:
            found.append((start, last))
    return tuple(found)


def disjoint(products: Iterable[tuple[Range, Sequence[Range]]]) -> tuple[Product, ...]:
    """Products that cover the same pairs, none of them twice.

    The local ranges are cut at each other's bounds; every piece gets the union of the remote ranges of those that cover it.
    """
    by_local: dict[Range, list[Range]] = {}
    for local, remotes in products:
        by_local.setdefault(local, []).extend(remotes)
    bounds = sorted({edge for first, last in by_local for edge in (first, last + 1)})
    ordered = sorted(by_local)
    found: list[Product] = []
    covering: list[Range] = []
    following = 0
    for start, end in pairwise(bounds):
        while following < len(ordered) and ordered[following][0] == start:
            covering.append(ordered[following])
            following += 1
        covering = [local for local in covering if local[1] >= start]
        if not covering:
            continue
        remotes = union(remote for local in covering for remote in by_local[local])
        if found and found[-1][0][1] == start - 1 and found[-1][1] == remotes:
            found[-1] = (found[-1][0][0], end - 1), remotes
        else:
            found.append(((start, end - 1), remotes))
    return tuple(found)
