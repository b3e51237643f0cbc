/** What may be shown of a state: never one that nobody vouches for now. */
import { duration } from '../format'
import type { LiveState } from '../live'
import type { TunnelState } from './states'

/** After this long without a connection, the page no longer knows anything. Shorter gaps are of a restart or a roaming laptop. */
export const DISCONNECTED_MS = 10_000

export interface Connection {
  state: LiveState
  /** Since when the connection has been lost; milliseconds since the epoch, by the server's clock. */
  lostAt: number | null
  /** Since when the server has not received what agents report, by its own word. */
  blindAt: number | null
}

/** Why a state is unknown: the agents are silent, the server does not receive them, or this page has no connection. They look different. */
export type Silence = 'agent' | 'server' | 'page' | null

export interface Shown {
  state: TunnelState
  silence: Silence
}

/** Whether the page has lost the server for so long that its states are void. */
export function isDisconnected(connection: Connection, now: number): boolean {
  return connection.state !== 'live' && connection.lostAt !== null && now - connection.lostAt >= DISCONNECTED_MS
}

/** Whether the server has been without reports for so long that its states are void. */
export function isBlind(connection: Connection, now: number): boolean {
  return connection.blindAt !== null && now - connection.blindAt >= DISCONNECTED_MS
}

/** The state to show for one that was received. */
export function shownState(state: TunnelState, connection: Connection, now: number): Shown {
  if (isDisconnected(connection, now)) return { state: 'unknown', silence: 'page' }
  if (isBlind(connection, now)) return { state: 'unknown', silence: 'server' }
  return { state, silence: state === 'unknown' ? 'agent' : null }
}

/** The age and source of a state, in words. */
export function provenance(reportedAt: number | null, sources: readonly string[], silent: readonly string[], now: number): string {
  const age = reportedAt === null ? 'no report' : `${duration((now - reportedAt) / 1_000)} ago`
  if (sources.length === 0) return reportedAt === null ? 'no agent has reported' : `last report ${age}; silent: ${silent.join(', ')}`
  const from = `${age}, from ${sources.join(' and ')}`
  return silent.length > 0 ? `${from}; silent: ${silent.join(', ')}` : from
}
