/** The entries of a tunnel's history while it grows. */
import type { HistoryEntry } from './before'

/**
 * The newest page in place of what is held of the same time, and what is held from before it; both in order, the newest first. Null:
 * between the two may be entries that neither has.
 */
export function withNewer(newest: readonly HistoryEntry[], held: readonly HistoryEntry[]): HistoryEntry[] | null {
  const last = newest.at(-1)
  if (last === undefined) return null
  const known = JSON.stringify(last)
  const at = held.findIndex((entry) => JSON.stringify(entry) === known)
  return at < 0 ? null : [...newest, ...held.slice(at + 1)]
}
