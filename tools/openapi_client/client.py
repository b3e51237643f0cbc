"""A client that openapi-python-client made of docs/openapi.json: creates a policy, does not overwrite it, reads it back. Prints
what it got, as JSON."""

import json
import os

from warren_client import AuthenticatedClient
from warren_client.api.policies import get_policy, list_policies, put_policy
from warren_client.models import Policy, PolicyList, Problem

policy = Policy.from_dict({"id": "mesh", "topology": {"kind": "mesh", "members": ["tag=branch"]}})
with AuthenticatedClient(base_url=os.environ["WARREN_URL"], token=os.environ["WARREN_TOKEN"]) as client:
    created = put_policy.sync_detailed("mesh", client=client, body=policy, if_none_match="*")
    again = put_policy.sync_detailed("mesh", client=client, body=policy, if_none_match="*")
    listed = list_policies.sync(client=client, limit=10)
    etag = created.headers["etag"]
    unchanged = get_policy.sync_detailed("mesh", client=client, if_none_match=etag)
assert isinstance(again.parsed, Problem)
assert isinstance(listed, PolicyList)
print(
    json.dumps(
        {
            "created": created.status_code,
            "etag": etag,
            "again": again.status_code,
            "problem": again.parsed.type_,
            "policies": [stored.policy.id for stored in listed.policies],
            "unchanged": unchanged.status_code,
        }
    )
)
