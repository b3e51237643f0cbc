/** What about a gateway needs an operator. */
import type { Schemas } from '../api/client'

const MAX_SKEW_S = 60
const INTENT_STALE_S = 300

/** One sentence for each finding; none: the gateway is fine. */
export function attention(peer: Schemas['PeerSummary']): string[] {
  if (peer.revoked) return []
  const found: string[] = []
  if (peer.presence === 'offline') found.push('The agent is offline: its tunnels may carry traffic, and nobody reports them.')
  if (peer.presence === 'unknown') found.push('The agent has not reported yet.')
  if (peer.refused) found.push(`Its announcement was refused: ${peer.refused}`)
  for (const driver of peer.drivers ?? []) {
    if (driver.state === 'unreachable') found.push(`The daemon of ${driver.kind} is unreachable: ${driver.detail || 'no detail'}`)
  }
  if (Math.abs(peer.clock_skew_s ?? 0) > MAX_SKEW_S) found.push(`Its clock differs by ${Math.round(peer.clock_skew_s ?? 0)} s.`)
  if ((peer.connections ?? 1) > 1) found.push(`Its key is used by ${peer.connections} connections: was a disk cloned?`)
  if ((peer.host?.intent_unconfirmed_s ?? 0) > INTENT_STALE_S) found.push('It is kept from news: the digests of the registry are missing.')
  return found
}
