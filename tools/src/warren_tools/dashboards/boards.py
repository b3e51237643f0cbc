"""The five dashboards: fleet, peer, tunnel, changes, bus. Each panel answers one question of an operator."""

from typing import Any

from grafana_foundation_sdk.builders.dashboard import Row

from warren_tools.dashboards.panels import board, choice, figure, graph, query, rows

PEER = choice("peer", "Gateway", "label_values(warren_peer_online, peer)")
TUNNEL = choice("tunnel", "Tunnel", "label_values(warren_tunnel_stale, tunnel)", many=False)
WORST = "topk(20, {})"


def fleet() -> Any:
    """What is down, how many, and why."""
    down = "warren_tunnel_up == 0 unless warren_tunnel_standby == 1"
    return (
        board("warren-fleet", "Warren / Fleet", "What is up, degraded, down and unknown, and why.")
        .with_panel(figure("Tunnels", "Tunnels that any gateway reports.", "short", "fleet:warren_tunnels:count"))
        .with_panel(figure("Up", "Up at every end that reports, or on standby.", "short", "fleet:warren_tunnels_up:count"))
        .with_panel(figure("Degraded", "Installed, and packets do not pass as they should.", "short", "fleet:warren_tunnels_degraded:count", bad_from=1))
        .with_panel(figure("Unknown", "No end reports: their gateways are offline.", "short", "fleet:warren_tunnels_unknown:count", bad_from=1))
        .with_panel(figure("Gateways online", "Gateways whose heartbeats arrive.", "short", "warren_peers_online"))
        .with_panel(figure("Gateways offline", "Known gateways without heartbeats.", "short", "warren_peers_known - warren_peers_online", bad_from=1))
        .with_panel(graph("Tunnels by state", "Of the whole fleet; a tunnel is as good as its worst end.", "short",
            query("fleet:warren_tunnels_up:count", "up"), query("fleet:warren_tunnels_degraded:count", "degraded"),
            query("fleet:warren_tunnels_unknown:count", "unknown"),
            query("fleet:warren_tunnels:count - fleet:warren_tunnels_up:count - fleet:warren_tunnels_degraded:count - fleet:warren_tunnels_unknown:count", "down")))
        .with_panel(graph("Reasons", "Tunnels that are not up, by the reason that an end reports.", "short", query("reason:warren_tunnels:count", "{{reason}}")))
        .with_panel(graph("Causes", "Tunnels by what is wrong, concluded from both ends; a tunnel counts once.", "short", query("count by (cause) (warren_tunnel_cause)", "{{cause}}")))
        .with_row(Row("Not up now"))
        .with_panel(rows("Down", "Ends without an SA that are not on standby, for how long (s).",
            f"time() - warren_tunnel_state_changed_timestamp_seconds and on (tunnel, peer) ({down})", unit="s", span=12))
        .with_panel(rows("Reason by end", "What the ends say.", "warren_tunnel_reason", span=12, hidden=("Time", "Value")))
        .with_row(Row("Load"))
        .with_panel(graph("Traffic received, by gateway", "The 20 largest.", "Bps", query(WORST.format("peer:warren_tunnel_receive_bytes:rate5m"), "{{peer}}")))
        .with_panel(graph("Failed attempts", "By reason, of the whole fleet.", "ops", query("sum by (reason) (rate(warren_tunnel_failures_total[$__rate_interval])) > 0", "{{reason}}")))
    )  # fmt: skip


def peer() -> Any:
    """One gateway, or several."""
    mine = '{peer=~"$peer"}'
    return (
        board("warren-peer", "Warren / Gateway", "One gateway: its agent, its daemon, its tunnels.", PEER)
        .with_panel(figure("Online", "1: heartbeats arrive.", "short", f"min(warren_peer_online{mine})"))
        .with_panel(figure("Tunnels up", "At this end.", "short", f"sum(warren_tunnel_up{mine})"))
        .with_panel(figure("Tunnels not up", "Without those on standby.", "short",
            f"count(warren_tunnel_up{mine} == 0 unless warren_tunnel_standby == 1) or vector(0)", bad_from=1))
        .with_panel(figure("Daemon", "1: it answers the agent.", "short", f"min(warren_daemon_up{mine})"))
        .with_panel(figure("Clock", "How far its clock is ahead of the bus's.", "s", f"max(abs(warren_peer_clock_skew_seconds{mine}))", bad_from=2))
        .with_panel(figure("Agent's uptime", "Since its start.", "s", f"time() - max(warren_agent_start_time_seconds{mine})"))
        .with_panel(graph("Traffic", "Of all its tunnels; received and sent.", "Bps",
            query(f"sum by (peer) (rate(warren_tunnel_receive_bytes_total{mine}[$__rate_interval]))", "{{peer}} received"),
            query(f"sum by (peer) (rate(warren_tunnel_transmit_bytes_total{mine}[$__rate_interval]))", "{{peer}} sent")))
        .with_panel(graph("Packets", "Of all its tunnels; received and sent.", "pps",
            query(f"sum by (peer) (rate(warren_tunnel_receive_packets_total{mine}[$__rate_interval]))", "{{peer}} received"),
            query(f"sum by (peer) (rate(warren_tunnel_transmit_packets_total{mine}[$__rate_interval]))", "{{peer}} sent")))
        .with_panel(rows("Reasons", "Its tunnels that are not up.", f"warren_tunnel_reason{mine}", span=12, hidden=("Time", "Value")))
        .with_panel(graph("Handshakes", "95th percentile from connecting to the first CHILD_SA, at the initiator.", "s",
            query(f"histogram_quantile(0.95, sum by (le, peer) (rate(warren_tunnel_handshake_duration_seconds_bucket{mine}[$__rate_interval])))", "{{peer}}", exemplars=True)))
        .with_panel(graph("Rekeyings", "95th percentile from the first request to the new SA, at the end that began it; charon does not report it.", "s",
            query(f"histogram_quantile(0.95, sum by (le, peer) (rate(warren_tunnel_rekey_duration_seconds_bucket{mine}[$__rate_interval])))", "{{peer}}", exemplars=True)))
        .with_row(Row("Agent"))
        .with_panel(graph("Memory", "Resident.", "bytes", query(f"warren_agent_resident_memory_bytes{mine}", "{{peer}}"), span=8))
        .with_panel(graph("CPU", "Of one core.", "percentunit", query(f"rate(warren_agent_cpu_seconds_total{mine}[$__rate_interval])", "{{peer}}"), span=8))
        .with_panel(graph("Queue", "Telemetry that waits for the bus, in memory and on disk, and what was dropped.", "short",
            query(f"warren_agent_queue_messages{mine}", "{{peer}} messages"), query(f"warren_agent_queue_bytes{mine}", "{{peer}} bytes on disk"),
            query(f"increase(warren_agent_dropped_messages_total{mine}[$__rate_interval])", "{{peer}} dropped"), span=8))
        .with_panel(graph("Drift, dead peers, refused documents", "Within the last hour.", "short",
            query(f"increase(warren_peer_config_drifts_total{mine}[1h])", "{{peer}} drift"),
            query(f"increase(warren_peer_dpd_failures_total{mine}[1h])", "{{peer}} dead peers"),
            query(f"increase(warren_peer_policy_sync_errors_total{mine}[1h])", "{{peer}} refused documents")))
        .with_panel(graph("Revisions", "What it has received, and what it has applied.", "short",
            query(f"warren_policy_received_revision{mine}", "{{peer}} received"), query(f"warren_policy_applied_revision{mine}", "{{peer}} applied")))
    )  # fmt: skip


def tunnel() -> Any:
    """One tunnel, both ends next to each other."""
    mine = '{tunnel="$tunnel"}'
    return (
        board("warren-tunnel", "Warren / Tunnel", "One tunnel as both ends see it.", TUNNEL)
        .with_panel(figure("Up", "1: up at every end that reports.", "short", f"min(warren_tunnel_up{mine})"))
        .with_panel(figure("Degraded", "1: at one end at least.", "short", f"max(warren_tunnel_degraded{mine})", bad_from=1))
        .with_panel(figure("Stale ends", "Ends whose gateway is offline.", "short", f"sum(warren_tunnel_stale{mine})", bad_from=1))
        .with_panel(figure("In this state for", "Since the last change of an end.", "s", f"time() - max(warren_tunnel_state_changed_timestamp_seconds{mine})"))
        .with_panel(figure("Established for", "The IKE_SA.", "s", f"time() - max(warren_tunnel_established_timestamp_seconds{mine})"))
        .with_panel(figure("Last evidence", "Since a packet of the peer was decrypted or a probe answered.", "s",
            f"time() - max(warren_tunnel_evidence_timestamp_seconds{mine})"))
        .with_panel(graph("State", "1: up, at each end.", "short", query(f"warren_tunnel_up{mine}", "{{peer}} up"),
            query(f"warren_tunnel_degraded{mine}", "{{peer}} degraded"), query(f"warren_tunnel_standby{mine}", "{{peer}} standby")))
        .with_panel(rows("Ends", "The other end and the policy of each end; reasons, if there are any.", f"warren_tunnel_info{mine}", span=12, hidden=("Time", "Value")))
        .with_panel(graph("Traffic", "Received and sent at each end: what one sends, the other must receive.", "Bps",
            query(f"rate(warren_tunnel_receive_bytes_total{mine}[$__rate_interval])", "{{peer}} received"),
            query(f"rate(warren_tunnel_transmit_bytes_total{mine}[$__rate_interval])", "{{peer}} sent")))
        .with_panel(graph("Packets", "Received and sent at each end.", "pps",
            query(f"rate(warren_tunnel_receive_packets_total{mine}[$__rate_interval])", "{{peer}} received"),
            query(f"rate(warren_tunnel_transmit_packets_total{mine}[$__rate_interval])", "{{peer}} sent")))
        .with_panel(graph("Rekeyings and restarts", "Within the last hour.", "short", query(f"increase(warren_tunnel_rekeys_total{mine}[1h])", "{{peer}} rekeyings"),
            query(f"increase(warren_tunnel_restarts_total{mine}[1h])", "{{peer}} restarts")))
        .with_panel(graph("Changes of the state", "Within the last hour, at each end.", "short",
            query(f"changes(warren_tunnel_state_changed_timestamp_seconds{mine}[1h])", "{{peer}}")))
    )  # fmt: skip


def changes() -> Any:
    """How changes of policies reach the gateways."""
    return (
        board("warren-changes", "Warren / Changes", "How changes of policies reach the gateways.")
        .with_panel(figure("Revision", "The newest that was published.", "short", "warren_policy_revision"))
        .with_panel(figure("Outdated gateways", "They have received a revision that they have not applied.", "short", "sum(warren_policy_outdated)", bad_from=1))
        .with_panel(figure("Failed changes (1 h)", "That agents could not apply.", "short", "increase(warren_policy_apply_failures_total[1h])", bad_from=1))
        .with_panel(figure("Unconfirmed", "The longest time without the registry's digests.", "s", "max(warren_peer_intent_unconfirmed_seconds) or vector(0)", bad_from=300))
        .with_panel(figure("Edit to applied, p95 (10 min)", "Of all gateways.", "s", "fleet:warren_policy_propagation_seconds:p95_10m"))
        .with_panel(figure("Drift (1 h)", "Times that a daemon was changed by somebody else.", "short", "sum(increase(warren_peer_config_drifts_total[1h]))", bad_from=1))
        .with_panel(graph("Edit to applied", "From the edit of a policy until the gateways had applied it.", "s",
            *(query(f"histogram_quantile({share}, sum by (le) (rate(warren_policy_propagation_seconds_bucket[$__rate_interval])))", f"p{int(share * 100)}", exemplars=True)
              for share in (0.5, 0.95, 0.99))))
        .with_panel(graph("Time to apply", "What agents take.", "s",
            *(query(f"histogram_quantile({share}, sum by (le) (rate(warren_policy_apply_duration_seconds_bucket[$__rate_interval])))", f"p{int(share * 100)}", exemplars=True)
              for share in (0.5, 0.95, 0.99))))
        .with_panel(graph("Applied changes", "By outcome.", "ops", query("sum(rate(warren_policy_apply_duration_seconds_count[$__rate_interval]))", "all"),
            query("rate(warren_policy_apply_failures_total[$__rate_interval])", "failed")))
        .with_panel(graph("Revisions", "The newest, and the oldest and newest that gateways have applied.", "short", query("warren_policy_revision", "published"),
            query("max(warren_policy_applied_revision)", "newest applied"), query("min(warren_policy_applied_revision)", "oldest applied")))
        .with_panel(graph("Gateways without the current revision", "By policy: online ones that are pending or have failed, and unreachable ones.", "short",
            query('sum by (policy) (warren_policy_rollout_gateways{state=~"pending|failed"}) > 0', "{{policy}}"),
            query('warren_policy_rollout_gateways{state="unreachable"} > 0', "{{policy}} unreachable")))
        .with_panel(rows("Rollouts that are not complete", "Gateways of each policy by what they have done with its current revision.",
            "warren_policy_rollout_gateways and on (policy) warren_policy_rollout_start_timestamp_seconds", span=12))
        .with_panel(rows("Age of rollouts", "Since the current revision was published, while not every gateway has applied it (s).",
            "time() - warren_policy_rollout_start_timestamp_seconds", unit="s", span=12))
        .with_panel(rows("Gateways that are outdated", "1: it has received a newer revision than it has applied.", "warren_policy_outdated", span=12))
        .with_panel(rows("Slowest gateways", "Mean seconds from an edit until applied, within an hour.",
            WORST.format("sum by (peer) (increase(warren_policy_propagation_seconds_sum[1h])) / sum by (peer) (increase(warren_policy_propagation_seconds_count[1h]))"), unit="s", span=12))
    )  # fmt: skip


def bus() -> Any:
    """The bus, and the metrics service that reads it."""
    return (
        board("warren-bus", "Warren / Bus", "Streams, telemetry, certificates, and the metrics service itself.")
        .with_panel(figure("Behind", "Age of the newest message of the last batch.", "s", "warren_telemetry_delay_seconds", bad_from=10))
        .with_panel(figure("Waiting", "Messages that wait for the metrics service.", "short", "sum(warren_consumer_pending_messages)", bad_from=5000))
        .with_panel(figure("Dead letters (1 h)", "Dropped after the last delivery.", "short", "increase(warren_telemetry_dead_letters_total[1h])", bad_from=1))
        .with_panel(figure("Refused (1 h)", "Invalid telemetry.", "short", "sum(increase(warren_telemetry_rejected_total[1h]))", bad_from=10))
        .with_panel(figure("Suppressed events (1 h)", "Of peers that exceed their rate.", "short", "increase(warren_events_suppressed_total[1h])", bad_from=1))
        .with_panel(figure("Certificate", "Until the first one expires; none without TLS.", "s", "min(warren_certificate_expiry_timestamp_seconds) - time()"))
        .with_panel(graph("Telemetry", "Messages accepted, by kind.", "ops", query("rate(warren_telemetry_messages_total[$__rate_interval])", "{{kind}}")))
        .with_panel(graph("Refused telemetry", "By reason.", "ops", query("rate(warren_telemetry_rejected_total[$__rate_interval])", "{{reason}}")))
        .with_panel(graph("Messages in streams", "TELEMETRY is emptied by age, EVENT by age and size.", "short", query("warren_stream_messages", "{{stream}}")))
        .with_panel(graph("Size of streams", "Of their limits in docs/bus.md.", "bytes", query("warren_stream_bytes", "{{stream}}")))
        .with_panel(graph("Queue of the metrics service", "Messages that wait for it.", "short", query("warren_consumer_pending_messages", "{{consumer}}")))
        .with_panel(graph("Queues of the agents", "The 20 longest.", "short", query(WORST.format("warren_agent_queue_messages"), "{{peer}}")))
        .with_panel(graph("CPU of the metrics service", "Of one core.", "percentunit", query("rate(process_cpu_seconds_total[$__rate_interval]) and on (instance) warren_peers_known", "cpu")))
        .with_panel(graph("Memory of the metrics service", "Resident.", "bytes", query("process_resident_memory_bytes and on (instance) warren_peers_known", "resident")))
        .with_panel(rows("Certificates", "Until they expire (s).", "warren_certificate_expiry_timestamp_seconds - time()", unit="s", span=12))
    )  # fmt: skip


BOARDS = {"fleet": fleet, "peer": peer, "tunnel": tunnel, "changes": changes, "bus": bus}
