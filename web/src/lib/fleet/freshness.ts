/** Which state may be shown: never one whose reports are not current. */
import { duration } from '../format'
import { SILENCE_MS, type LiveState } from '../live'
import type { TunnelState } from './states'

/** After this long without a connection, the page no longer knows anything. Shorter gaps are of a restart or a roaming laptop. */
export const DISCONNECTED_MS = 10_000

export interface Connection {
  state: LiveState
  /** Since when the connection has been lost; milliseconds since the epoch, by the server's clock. */
  lostAt: number | null
  /** When the server last sent something, to a few seconds. */
  receivedAt: number | null
  /** Since when the server has received no reports of agents, as it states itself. */
  blindAt: number | null
  /** Since when it has not received whose agents are online. */
  presenceBlindAt: number | null
}

export const NO_CONNECTION: Connection = { state: 'connecting', lostAt: null, receivedAt: null, blindAt: null, presenceBlindAt: null }

/** Why a state is unknown: the agents are silent, the server does not receive them, or this page has no connection. They look different. */
export type Silence = 'agent' | 'server' | 'page' | null

export interface Shown {
  state: TunnelState
  silence: Silence
}

/**
 * Since when the page knows nothing of the server; null: it is connected.
 *
 * A connection that counts as live and says nothing is as good as lost, also before its timer ends it: a computer that slept wakes with the
 * states of hours ago, and its timers have not run meanwhile.
 */
export function lostSince(connection: Connection, now: number): number | null {
  if (connection.state !== 'live') return connection.lostAt
  return connection.receivedAt !== null && now - connection.receivedAt >= SILENCE_MS ? connection.receivedAt : null
}

/** Whether the page has lost the server for so long that its states are void. */
export function isDisconnected(connection: Connection, now: number): boolean {
  const since = lostSince(connection, now)
  return since !== null && now - since >= DISCONNECTED_MS
}

/** Whether the server has been without reports for so long that its states are void. */
export function isBlind(connection: Connection, now: number): boolean {
  return connection.blindAt !== null && now - connection.blindAt >= DISCONNECTED_MS
}

/** Whether nobody can say which agents are online. */
export function isPresenceVoid(connection: Connection, now: number): boolean {
  if (isDisconnected(connection, now)) return true
  return connection.presenceBlindAt !== null && now - connection.presenceBlindAt >= DISCONNECTED_MS
}

/** Why nobody vouches for any state now; null: somebody does. */
export function silenceOf(connection: Connection, now: number): 'page' | 'server' | null {
  if (isDisconnected(connection, now)) return 'page'
  return isBlind(connection, now) ? 'server' : null
}

/** The state to show for one that was received. */
export function shownState(state: TunnelState, connection: Connection, now: number): Shown {
  const silence = silenceOf(connection, now)
  if (silence !== null) return { state: 'unknown', silence }
  return { state, silence: state === 'unknown' ? 'agent' : null }
}

/** The age and source of a state, in words. */
export function provenance(reportedAt: number | null, sources: readonly string[], silent: readonly string[], now: number): string {
  const age = reportedAt === null ? 'no report' : `${duration((now - reportedAt) / 1_000)} ago`
  if (sources.length === 0) return reportedAt === null ? 'no agent has reported' : `last report ${age}; silent: ${silent.join(', ')}`
  const from = `${age}, from ${sources.join(' and ')}`
  return silent.length > 0 ? `${from}; silent: ${silent.join(', ')}` : from
}
