"""How an agent names its connection: by its machine and its process."""

import re
from pathlib import Path

from warren_agent.host_identity import host_id


def machine(folder: Path, machine_id: str, **cards: str) -> tuple[Path, Path]:
    """`cards`: addresses by interface; those that begin with `eth` are hardware."""
    devices = folder / "net"
    folder.mkdir()
    for name, address in cards.items():
        (devices / name).mkdir(parents=True)
        (devices / name / "address").write_text(address + "\n")
        if name.startswith("eth"):
            (devices / name / "device").mkdir()
    file = folder / "machine-id"
    file.write_text(machine_id)
    return file, devices


def test_a_clone_differs_by_its_network_card_and_bridges_change_nothing(tmp_path: Path) -> None:
    first = machine(tmp_path / "1", "m", eth0="02:00:00:00:00:01", docker0="02:42:00:00:00:01", lo="00:00:00:00:00:00")
    clone = machine(tmp_path / "2", "m", eth0="02:00:00:00:00:02")
    restarted = machine(tmp_path / "3", "m", eth0="02:00:00:00:00:01", veth9="02:42:00:00:00:07")
    assert host_id(*first) == host_id(*restarted)
    assert host_id(*first) != host_id(*clone)
    nothing = host_id(tmp_path / "none", tmp_path / "none")
    assert re.fullmatch("[0-9a-f]{16}", nothing)
