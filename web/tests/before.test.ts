import { expect, test } from 'vitest'

import { lastBreak, type HistoryEntry } from '../src/lib/fleet/before'
import { withNewer } from '../src/lib/fleet/history'

const at = (seconds: number) => new Date(Date.parse('2026-01-01T12:00:00Z') + seconds * 1_000).toISOString()
const state = (seconds: number, peer: string, now: string, previous: string | null, more = {}) =>
  ({ kind: 'state', at: at(seconds), peer, state: now, previous, reason: 'none', detail: '', policy: 'branches', removed: false, ...more }) as HistoryEntry
const applied = (seconds: number, peer: string, revision: number) =>
  ({ kind: 'applied', at: at(seconds), peer, epoch: 1, revision, ok: true, duration_ms: 1, error: '' }) as HistoryEntry
const failed = (seconds: number, peer: string, revision: number) => ({ ...applied(seconds, peer, revision), ok: false, error: 'refused' }) as HistoryEntry
const presence = (seconds: number, peer: string, word: string) => ({ kind: 'presence', at: at(seconds), peer, presence: word, reason: '' }) as HistoryEntry

test('the first end that reports a break counts, with what changed before it', () => {
  const found = lastBreak([
    applied(30, 'hub', 8), // after it
    state(12, 'spoke', 'down', 'up'),
    state(10, 'hub', 'degraded', 'up'),
    applied(5, 'spoke', 7),
    presence(0, 'spoke', 'online'),
    state(-30, 'hub', 'up', 'down'),
    applied(-3_600, 'hub', 6), // too long before
  ])
  expect(found?.entry).toMatchObject({ peer: 'hub', state: 'degraded' })
  expect(found?.changes.map((it) => it.entry.kind)).toEqual(['applied', 'presence'])
})

test('a break before the last recovery is another one', () => {
  const found = lastBreak([state(100, 'hub', 'down', 'up'), state(90, 'hub', 'up', 'down'), state(80, 'hub', 'down', 'up'), applied(79, 'hub', 3)])
  expect(found?.at).toBe(Date.parse(at(100)))
  expect(found?.changes).toHaveLength(1)
})

test('a removed tunnel, a standby and silence are not a break', () => {
  expect(lastBreak([state(3, 'hub', 'down', 'up', { removed: true }), state(2, 'hub', 'standby', 'up'), state(1, 'hub', 'unknown', 'up')])).toBeNull()
  expect(lastBreak([])).toBeNull()
})

test('a revision that both ends applied, and one of them again after a failure, is one change', () => {
  const found = lastBreak([state(10, 'hub', 'down', 'up'), applied(6, 'hub', 7), applied(5, 'spoke', 7), failed(4.5, 'hub', 7), applied(4, 'hub', 7), applied(3, 'hub', 6)])
  expect(found?.changes.map((it) => [it.peers, it.entry.at])).toEqual([[['hub', 'spoke'], at(6)], [['hub'], at(4.5)], [['hub'], at(3)]])
})

test('a history that is read again gains what has come, also late, and keeps what was read of the past', () => {
  const [a, b, late, c, d] = [4, 3, 2.5, 2, 1].map((seconds) => presence(seconds, 'hub', 'online')) as [HistoryEntry, HistoryEntry, HistoryEntry, HistoryEntry, HistoryEntry]
  expect(withNewer([a, b, late, c], [b, c, d])).toEqual([a, b, late, c, d])
  expect(withNewer([a, b], [b, c, d])).toEqual([a, b, c, d])
  expect(withNewer([a, b], [c, d])).toBeNull() // what is between them was not read
  expect(withNewer([], [d])).toBeNull()
})
