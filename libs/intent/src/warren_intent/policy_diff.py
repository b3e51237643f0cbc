"""What differs between two versions of a policy, field by field."""

import json
from collections.abc import Iterator
from typing import Any

from warren_contracts.plans import FieldChange
from warren_contracts.policy import Policy


def changes(before: Policy | None, after: Policy | None) -> list[FieldChange]:
    """The fields that differ, in the order of the policy, without its version. None: there is no policy."""
    old, new = _fields(before), _fields(after)
    names = dict.fromkeys([*old, *new])
    return [
        FieldChange(field=name, before=old.get(name), after=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]


def _fields(policy: Policy | None) -> dict[str, str]:
    if policy is None:
        return {}
    return dict(_leaves("", policy.model_dump(mode="json", exclude_defaults=True, exclude={"version"})))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(f"{path}/{name}", below)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, below in enumerate(value):
            yield from _leaves(f"{path}/{index}", below)
    else:
        yield path.removeprefix("/"), json.dumps(value, ensure_ascii=False)
