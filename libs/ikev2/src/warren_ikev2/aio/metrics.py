"""Counters of an endpoint, as a snapshot and as Prometheus text (exposition format 0.0.4)."""

from collections import Counter
from dataclasses import dataclass, field

from warren_ikev2.esp.drops import DropReason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HELP = {
    "ike_handshakes_total": "IKE_SAs that reached ESTABLISHED.",
    "ike_handshake_failures": "IKE_SAs that ended before they were established.",
    "ike_sa_rekeyed": "IKE_SAs replaced by rekeying.",
    "ike_requests_refused": "Requests of authenticated peers that were refused.",
    "dpd_timeout": "Peers that stopped answering.",
    "esp_packets_encrypted": "Packets sent through ESP.",
    "esp_packets_decrypted": "Packets received through ESP and accepted.",
    "esp_replay_detected": "ESP packets refused by the anti-replay window.",
}


@dataclass(slots=True)
class Metrics:
    """The counters of an endpoint since its start, which only the driver increments."""

    ike_handshakes_total: int = 0
    ike_handshake_failures: int = 0
    ike_sa_rekeyed: int = 0
    ike_requests_refused: int = 0
    dpd_timeout: int = 0
    esp_packets_encrypted: int = 0
    esp_packets_decrypted: int = 0
    drops: Counter[DropReason] = field(default_factory=Counter)
    """Packets dropped by ESP, by reason."""

    @property
    def esp_replay_detected(self) -> int:
        """Packets refused by the anti-replay window."""
        return self.drops[DropReason.REPLAY]

    def snapshot(self) -> dict[str, int]:
        """The counters by name; drops as `esp_packets_dropped_<reason>`."""
        counters = {name: int(getattr(self, name)) for name in _HELP}
        return counters | {f"esp_packets_dropped_{reason}": self.drops[reason] for reason in DropReason}

    def prometheus(self) -> str:
        """The counters as text for a Prometheus scrape (see `CONTENT_TYPE`)."""
        lines = []
        for name, text in _HELP.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter", f"{name} {getattr(self, name)}"]
        lines += ["# HELP esp_packets_dropped ESP packets dropped, by reason.", "# TYPE esp_packets_dropped counter"]
        lines += [f'esp_packets_dropped{{reason="{reason}"}} {self.drops[reason]}' for reason in DropReason]
        return "\n".join(lines) + "\n"
