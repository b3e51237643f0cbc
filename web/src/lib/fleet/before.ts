/** What changed before a tunnel broke, from its history. */
import type { Schemas } from '../api/client'
import { moment } from '../format'
import type { TunnelState } from './states'

export type HistoryEntry = Schemas['TunnelHistory']['entries'][number]
export type StateEntry = Extract<HistoryEntry, { kind: 'state' }>

export const WINDOW_MS = 15 * 60_000

/** States that are not a break: the tunnel is not meant to carry traffic, or whether it does is unknown. */
const NO_BREAK: readonly TunnelState[] = ['up', 'standby', 'unknown']

export interface Break {
  /** The end that reported it first, of those that did within the window. */
  entry: StateEntry
  /** When; milliseconds since the epoch. */
  at: number
  /** Revisions and presence of the ends in WINDOW_MS before, the newest first. */
  changes: Change[]
}

/** What happened at one end, or the same at both. */
export interface Change {
  /** The last of several reports of it. */
  entry: Exclude<HistoryEntry, StateEntry>
  peers: string[]
}

/** When the tunnel last stopped being up; `entries` are in order, the newest first. Null: not within them. */
export function lastBreak(entries: readonly HistoryEntry[]): Break | null {
  const breaks = entries.filter(isBreak)
  const [newest] = breaks
  if (newest === undefined) return null
  // Both ends report one break: the first of them counts, as long as the tunnel was not up again in between.
  const recovered = entries.find((it) => it.kind === 'state' && it.state === 'up' && time(it) < time(newest))
  const entry = breaks.filter((it) => time(it) >= time(newest) - WINDOW_MS && (recovered === undefined || time(it) > time(recovered))).at(-1) ?? newest
  const at = time(entry)
  const changes = entries.filter((it) => it.kind !== 'state').filter((it) => time(it) <= at && time(it) >= at - WINDOW_MS)
  return { entry, at, changes: gathered(changes) }
}

/** A revision that both ends applied, or that one of them applied again after a failure, is one change. */
function gathered(entries: readonly Change['entry'][]): Change[] {
  const found = new Map<string, Change>()
  for (const entry of entries) {
    const what = entry.kind === 'applied' ? [entry.epoch, entry.revision, entry.ok, entry.error] : [entry.at, entry.presence, entry.reason]
    const key = JSON.stringify(what)
    const change = found.get(key) ?? { entry, peers: [] }
    found.set(key, { ...change, peers: [...new Set([...change.peers, entry.peer])].sort() })
  }
  return [...found.values()]
}

function isBreak(entry: HistoryEntry): entry is StateEntry {
  return entry.kind === 'state' && !entry.removed && entry.previous === 'up' && !NO_BREAK.includes(entry.state)
}

function time(entry: HistoryEntry): number {
  return moment(entry.at) ?? 0
}
