"""Devices of users of the real server: each a namespace in which `warren vpn client` runs."""

import json
from pathlib import Path
from typing import Any

from warren_testkit.ikev2.keys import private_pem
from warren_testkit.lab.vpn_bed import IDENTITY, SERVER
from warren_testkit.lab.vpn_bed import VpnBed as ServerBed
from warren_testkit.lab.vpn_client_bed import RESOLV_CONF, VpnBed
from warren_vpn.server.folder import public_text


def make_device(bed: ServerBed, user: str, name: str = "") -> VpnBed:
    """A device of a user, who logs in by the raw key of the bed; `name`: of its namespace, else the user's."""
    space, folder = bed.namespace_of(name or user), bed.lab.folder / f"device-{name or user}"
    (folder / "etc").mkdir(parents=True)
    device = VpnBed(bed.lab, space, bed.outside, {}, bed.keys[user], folder, folder / "state")
    device.resolv_conf.write_text(RESOLV_CONF)
    return device


def write_profile(bed: ServerBed, device: VpnBed, user: str, **changes: Any) -> Path:
    """The user's profile for the bed's server, with changes, next to its key."""
    key = device.folder / f"{user}.pem"
    key.touch(0o600)
    key.write_bytes(private_pem(bed.keys[user]))
    values = {
        "version": 1, "name": user, "servers": [{"host": SERVER}], "server_identity": IDENTITY, "identity": user,
        "server_trust": {"kind": "raw-key", "public_key": public_text(bed.server_key)},
        "login": {"kind": "raw-key", "key_file": key.name}, **changes,
    }  # fmt: skip
    path = device.folder / f"{user}.json"
    path.write_text(json.dumps(values))
    return path
