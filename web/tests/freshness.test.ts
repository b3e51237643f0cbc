import { describe, expect, test } from 'vitest'

import { attention } from '../src/lib/fleet/attention'
import { tunnelsCsv } from '../src/lib/fleet/export'
import { DISCONNECTED_MS, isPresenceVoid, lostSince, NO_CONNECTION, provenance, shownState, type Connection } from '../src/lib/fleet/freshness'
import { oldestReport, toRow } from '../src/lib/fleet/rows'
import { duration } from '../src/lib/format'
import type { Schemas } from '../src/lib/api/client'
import { SILENCE_MS } from '../src/lib/live'
import { NOW, row, tunnel } from './fleet'

const LIVE: Connection = { ...NO_CONNECTION, state: 'live', receivedAt: NOW }

describe('a state', () => {
  test('is shown as received while the page is connected', () => {
    expect(shownState('up', LIVE, NOW)).toEqual({ state: 'up', silence: null })
  })

  test('is unknown, never the last one, once the page is disconnected', () => {
    const lost = { ...LIVE, state: 'lost', lostAt: NOW - DISCONNECTED_MS } as const
    expect(shownState('up', lost, NOW)).toEqual({ state: 'unknown', silence: 'page' })
    expect(shownState('up', lost, NOW - 1)).toEqual({ state: 'up', silence: null })
  })

  test('is unknown when the server receives no reports, which looks different again', () => {
    const blind = { ...LIVE, blindAt: NOW - DISCONNECTED_MS }
    expect(shownState('up', blind, NOW)).toEqual({ state: 'unknown', silence: 'server' })
    expect(shownState('up', blind, NOW - 1)).toEqual({ state: 'up', silence: null })
  })

  test('is unknown on a connection that counts as live and has said nothing: its computer slept', () => {
    const asleep = { ...LIVE, receivedAt: NOW - SILENCE_MS }
    expect(shownState('up', asleep, NOW)).toEqual({ state: 'unknown', silence: 'page' })
    expect(lostSince(asleep, NOW)).toBe(NOW - SILENCE_MS)
    expect(shownState('up', asleep, NOW - 1)).toEqual({ state: 'up', silence: null })
  })

  test('leaves the page as a file no better known than it is shown', () => {
    const rows = [row('hub+spoke', { reason: 'other', detail: 'odd' })]
    const cells = (connection: Connection): string[] => tunnelsCsv(rows, connection, NOW).split('\r\n')[1]?.split(',') ?? []
    expect([cells(LIVE)[1], cells(LIVE)[3], cells(LIVE)[13]]).toEqual(['up', 'other', ''])
    const lost = cells({ ...LIVE, state: 'lost', lostAt: NOW - DISCONNECTED_MS })
    expect([lost[1], lost[3], lost[13]]).toEqual(['unknown', '', 'page'])
  })

  test('that is unknown to the server is another silence: the agent', () => {
    expect(shownState('unknown', LIVE, NOW)).toEqual({ state: 'unknown', silence: 'agent' })
  })
})

test('who is online is void without a connection of the page, or of the registry', () => {
  expect(isPresenceVoid(LIVE, NOW)).toBe(false)
  expect(isPresenceVoid({ ...LIVE, blindAt: NOW - DISCONNECTED_MS }, NOW)).toBe(false) // the metrics service is not needed for it
  expect(isPresenceVoid({ ...LIVE, presenceBlindAt: NOW - DISCONNECTED_MS }, NOW)).toBe(true)
  expect(isPresenceVoid({ ...LIVE, state: 'lost', lostAt: NOW - DISCONNECTED_MS }, NOW)).toBe(true)
})

test('the age of many states is that of the oldest report that counts', () => {
  const silent = row('c+d', { sources: [], silent: ['c', 'd'], reportedAt: NOW - 90_000 })
  expect(oldestReport([row('a+b', { reportedAt: NOW - 7_000 }), row('b+c'), silent])).toBe(NOW - 7_000)
  expect(oldestReport([silent])).toBeNull()
})

describe('the row of a tunnel', () => {
  test('is as old as the oldest report that it is derived from', () => {
    expect(toRow(tunnel()).reportedAt).toBe(Date.parse('2026-01-01T11:59:50Z'))
    expect(toRow(tunnel({ stale: ['hub'] })).reportedAt).toBe(Date.parse('2026-01-01T11:59:58Z'))
  })

  test('names its sources, and who is silent', () => {
    const row = toRow(tunnel({ stale: ['hub'] }))
    expect([row.sources, row.silent]).toEqual([['spoke'], ['hub']])
    expect(provenance(row.reportedAt, row.sources, row.silent, NOW)).toBe('2 s ago, from spoke; silent: hub')
  })

  test('without a current report says when the last one was', () => {
    const row = toRow(tunnel({ state: 'unknown', stale: ['hub', 'spoke'] }))
    expect(provenance(row.reportedAt, row.sources, row.silent, NOW)).toBe('last report 10 s ago; silent: hub, spoke')
  })

  test('takes the reason of the end that decides the state', () => {
    const ends = {
      hub: { name: 'hub+spoke', state: 'up', reason: 'none' },
      spoke: { name: 'hub+spoke', state: 'down', reason: 'peer-unreachable', detail: 'no answer' },
    }
    const row = toRow(tunnel({ state: 'down', ends: ends as never }))
    expect([row.reason, row.reasonPeer, row.detail]).toEqual(['peer-unreachable', 'spoke', 'no answer'])
  })

  test('takes no reason from an end that is silent', () => {
    const ends = { hub: { name: 'n', state: 'down', reason: 'other' }, spoke: { name: 'n', state: 'up' } }
    expect(toRow(tunnel({ ends: ends as never, stale: ['hub'] })).reason).toBe('')
  })
})

test.each([[0, '0 s'], [59.6, '1 min'], [3_599, '59 min'], [90_000, '1 d'], [-5, '0 s']])('%f s are %s', (seconds, words) => {
  expect(duration(seconds)).toBe(words)
})

test('what a gateway needs is said once, and nothing of a revoked one', () => {
  const peer = { peer: 'a', presence: 'offline', revoked: false, drivers: [{ kind: 'strongswan', state: 'unreachable', detail: 'no socket' }], clock_skew_s: -90 }
  expect(attention(peer as unknown as Schemas['PeerSummary'], NOW)).toHaveLength(3)
  expect(attention({ ...peer, revoked: true } as unknown as Schemas['PeerSummary'], NOW)).toEqual([])
})

test('a gateway that has not applied what it received, and one whose daemon drifted in the last hour, need somebody', () => {
  const peer = (host: object) => ({ peer: 'a', presence: 'online', host }) as unknown as Schemas['PeerSummary']
  expect(attention(peer({ received_revision: 7, applied_revision: 7, drifted_at: null }), NOW)).toEqual([])
  expect(attention(peer({ received_revision: 7, applied_revision: 6 }), NOW)).toEqual(['Revision 7 was received, and 6 is applied.'])
  expect(attention(peer({ drifted_at: new Date(NOW - 60_000).toISOString() }), NOW)).toEqual(['Its daemon did not hold what the agent had given to it 1 min ago.'])
  expect(attention(peer({ drifted_at: new Date(NOW - 7_200_000).toISOString() }), NOW)).toEqual([])
})
