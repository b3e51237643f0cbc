/** What the page keeps of each tunnel: a row for tables and the map, a tenth of the reply's size. */
import type { Schemas } from '../api/client'
import { moment } from '../format'
import type { TunnelState } from './states'

export type FleetTunnel = Schemas['FleetTunnel']
export type TunnelStatus = Schemas['TunnelStatus']
export type LiveTunnel = Schemas['LiveTunnel']
export type ReasonCode = Schemas['ReasonCode']

export interface TunnelRow {
  name: string
  state: TunnelState
  peers: readonly string[]
  policy: string
  /** Of all ends, for the query field: the policies, and the reasons of those that report. */
  policies: readonly string[]
  reasons: readonly ReasonCode[]
  /** The reason of the end that is worst off, and which end that is; empty: there is none. */
  reason: ReasonCode | ''
  reasonPeer: string
  detail: string
  /** When the state last changed, of the ends that report; milliseconds since the epoch. */
  since: number | null
  /** The oldest of the reports that the state is derived from: the state is as old as that. */
  reportedAt: number | null
  /** Whose reports the state is derived from, and whose are too old for it. */
  sources: readonly string[]
  silent: readonly string[]
  disagreement: string
  /** Null, as are the counters: not read yet. The live stream does not have them. */
  cipher: string | null
  bytesIn: number | null
  bytesOut: number | null
  rekeys: number | null
}

/** What a reply has and the live stream does not. */
type Details = Pick<TunnelRow, 'cipher' | 'bytesIn' | 'bytesOut' | 'rekeys'>

export function detailsOf({ cipher, bytesIn, bytesOut, rekeys }: TunnelRow): Details {
  return { cipher, bytesIn, bytesOut, rekeys }
}

/** The row of a tunnel of the live stream, with the details that are known from before. */
export function fromLive(live: LiveTunnel, before: TunnelRow | undefined): TunnelRow {
  const silent = live.stale ?? []
  const reason = live.reason === undefined || live.reason === 'none' ? '' : live.reason
  const same = before !== undefined && before.state === live.state
  return {
    name: live.name,
    state: live.state,
    peers: live.peers,
    policy: live.policy ?? '',
    policies: live.policy ? [live.policy] : [],
    reasons: reason === '' ? [] : [reason],
    reason,
    reasonPeer: same && before.reason === reason ? before.reasonPeer : '',
    detail: live.detail ?? '',
    since: moment(live.since),
    reportedAt: same && before.reportedAt !== null ? before.reportedAt : moment(live.reported_at),
    sources: Object.keys(live.ends ?? {}).filter((peer) => !silent.includes(peer)),
    silent,
    disagreement: live.disagreement ?? '',
    ...(before === undefined ? { cipher: null, bytesIn: null, bytesOut: null, rekeys: null } : detailsOf(before)),
  }
}

/** The reports of both ends, in order of peers. */
export function endsOf(tunnel: FleetTunnel): [string, TunnelStatus][] {
  const ends = tunnel.ends as Record<string, TunnelStatus>
  return Object.entries(ends).sort(([a], [b]) => (a < b ? -1 : 1))
}

/** When each peer reported a tunnel; milliseconds since the epoch. */
export function reportTimes(tunnel: FleetTunnel): Map<string, number> {
  const times = (tunnel.reported_at ?? {}) as Record<string, string>
  return new Map(Object.entries(times).flatMap(([peer, text]) => (moment(text) === null ? [] : [[peer, moment(text) ?? 0]])))
}

/** The row of a tunnel. */
export function toRow(tunnel: FleetTunnel): TunnelRow {
  const silent = new Set(tunnel.stale ?? [])
  const ends = endsOf(tunnel)
  const current = ends.filter(([peer]) => !silent.has(peer))
  const times = reportTimes(tunnel)
  const stated = current.find(([, status]) => hasReason(status) && status.state === tunnel.state)
  const [reasonPeer, reasoned] = stated ?? current.find(([, status]) => hasReason(status)) ?? ['', null]
  const shown = current.length > 0 ? current : ends
  const [, deciding] = shown.find(([, status]) => status.state === tunnel.state) ?? shown[0] ?? ['', null]
  const policies = [...new Set(ends.flatMap(([, status]) => status.policy ?? []))]
  const changes = current.flatMap(([, status]) => moment(status.since) ?? [])
  const used = (current.length > 0 ? current : ends).flatMap(([peer]) => times.get(peer) ?? [])
  return {
    name: tunnel.name,
    state: tunnel.state,
    peers: tunnel.peers,
    policy: policies[0] ?? '',
    policies,
    reasons: current.map(([, status]) => status.reason ?? 'none'),
    reason: reasoned?.reason ?? '',
    reasonPeer,
    detail: reasoned?.detail ?? '',
    since: changes.length > 0 ? Math.max(...changes) : null,
    reportedAt: used.length > 0 ? Math.min(...used) : null,
    sources: current.map(([peer]) => peer),
    silent: [...silent],
    disagreement: tunnel.disagreement ?? '',
    cipher: deciding?.link?.children?.[0]?.cipher ?? '',
    bytesIn: deciding?.traffic?.bytes_in ?? 0,
    bytesOut: deciding?.traffic?.bytes_out ?? 0,
    rekeys: deciding?.rekeys ?? 0,
  }
}

/** The oldest of the reports that the states of these tunnels are derived from; null: there is none. */
export function oldestReport(rows: readonly TunnelRow[]): number | null {
  let found: number | null = null
  for (const { sources, reportedAt } of rows) {
    if (sources.length > 0 && reportedAt !== null && (found === null || reportedAt < found)) found = reportedAt
  }
  return found
}

function hasReason(status: TunnelStatus): boolean {
  return status.reason !== undefined && status.reason !== 'none'
}
