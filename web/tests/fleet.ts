/** Rows for tests. */
import type { FleetTunnel, TunnelRow } from '../src/lib/fleet/rows'

export const NOW = Date.parse('2026-01-01T12:00:00Z')

export function row(name: string, changes: Partial<TunnelRow> = {}): TunnelRow {
  return {
    name, state: 'up', peers: name.split('+'), policy: 'branches', policies: ['branches'], reasons: [], reason: '', reasonPeer: '', detail: '', since: NOW - 60_000,
    reportedAt: NOW - 1_000, sources: name.split('+'), silent: [], disagreement: '', cipher: '', bytesIn: 0, bytesOut: 0, rekeys: 0,
    ...changes,
  }
}

export function tunnel(changes: Partial<FleetTunnel> = {}): FleetTunnel {
  const end = { name: 'hub+spoke', state: 'up', policy: 'branches', since: '2026-01-01T11:00:00Z' }
  return {
    name: 'hub+spoke', state: 'up', peers: ['hub', 'spoke'], ends: { hub: end, spoke: end } as unknown as FleetTunnel['ends'],
    stale: [], outdated: [], disagreement: '', unconfirmed: [],
    reported_at: { hub: '2026-01-01T11:59:50Z', spoke: '2026-01-01T11:59:58Z' } as unknown as NonNullable<FleetTunnel['reported_at']>,
    ...changes,
  }
}
