/** The tunnels of a table as CSV. */
import { csv } from '../csv'
import { shownState, type Connection } from './freshness'
import type { TunnelRow } from './rows'

const HEADER = [
  'tunnel', 'state', 'since', 'reason', 'reason_peer', 'detail', 'policy', 'peers', 'cipher', 'bytes_in', 'bytes_out', 'reported_at', 'silent',
  'silence',
]

/** The rows in this order. A state that nobody vouches for now is `unknown` here, too; `silence` says whose it is: agent, server or page. */
export function tunnelsCsv(rows: readonly TunnelRow[], connection: Connection, now: number): string {
  const lines = rows.map((row) => {
    const shown = shownState(row.state, connection, now)
    const isCurrent = shown.silence === null || shown.silence === 'agent'
    return [
      row.name, shown.state, ...(isCurrent ? [iso(row.since), row.reason, row.reasonPeer, row.detail] : ['', '', '', '']), row.policy,
      row.peers.join(' '), row.cipher ?? '', row.bytesIn ?? '', row.bytesOut ?? '', iso(row.reportedAt), row.silent.join(' '), shown.silence ?? '',
    ]
  })
  return csv(HEADER, lines)
}

function iso(at: number | null): string {
  return at === null ? '' : new Date(at).toISOString()
}
