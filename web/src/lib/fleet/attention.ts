/** What about a gateway needs an operator: the findings of `warren status`. */
import type { Schemas } from '../api/client'
import { ago, moment } from '../format'

const MAX_SKEW_S = 2
const INTENT_STALE_S = 300
const DRIFT_SHOWN_MS = 3_600_000

/** One sentence for each finding; none: the gateway is fine. `now` in milliseconds since the epoch. */
export function attention(peer: Schemas['PeerSummary'], now: number): string[] {
  if (peer.revoked) return []
  const found: string[] = []
  const host = peer.host
  if (peer.presence === 'offline') found.push('The agent is offline: its tunnels may carry traffic, and nobody reports them.')
  if (peer.presence === 'unknown') found.push('The agent has not reported yet.')
  if (peer.refused) found.push(`Its announcement was rejected: ${peer.refused}`)
  for (const driver of peer.drivers ?? []) {
    if (driver.state === 'unreachable') found.push(`The daemon of ${driver.kind} is unreachable: ${driver.detail || 'no detail'}`)
  }
  if ((host?.received_revision ?? 0) > (host?.applied_revision ?? 0)) {
    found.push(`Revision ${host?.received_revision} was received, and ${host?.applied_revision ?? 0} is applied.`)
  }
  const drifted = moment(host?.drifted_at)
  if (drifted !== null && now - drifted < DRIFT_SHOWN_MS) found.push(`Its daemon did not hold what the agent had given to it ${ago(drifted, now)}.`)
  if (Math.abs(peer.clock_skew_s ?? 0) > MAX_SKEW_S) found.push(`Its clock differs by ${(peer.clock_skew_s ?? 0).toFixed(1)} s from the bus: set it.`)
  const hosts = peer.hosts ?? []
  if (hosts.length > 1) found.push(`Its identity is in use by ${hosts.length} hosts: ${hosts.map(hostWords).join('; ')}. Stop the agent on the wrong one, and enrol it again.`)
  else if ((peer.connections ?? 1) > 1) found.push(`Its key is used by ${peer.connections} connections: was a disk cloned?`)
  if ((host?.intent_unconfirmed_s ?? 0) > INTENT_STALE_S) found.push("The registry's digests do not arrive there: see registry and NATS.")
  return found
}

function hostWords(host: Schemas['PeerHost']): string {
  return `${host.name || 'a host'} at ${host.address || 'an unknown address'}${host.holds_record ? ' (the record is its)' : ''}`
}
