import { expect, test } from 'vitest'

import type { TunnelStatus } from '../src/lib/fleet/rows'
import { childRows, isSa, type Reports } from '../src/lib/fleet/sas'
import { NOW } from './fleet'

function sa(child: string, spi_in: string, spi_out: string, age = 60) {
  return { child, spi_in, spi_out, cipher: 'aes256gcm16', established_at: new Date(NOW - age * 1_000).toISOString() }
}

function end(...children: ReturnType<typeof sa>[]): TunnelStatus {
  return { name: 'hub+spoke', state: 'up', link: { kind: 'ipsec', children } } as unknown as TunnelStatus
}

function reports(hub: TunnelStatus, spoke: TunnelStatus | null, changes: Partial<Reports> = {}): Reports {
  const ends: [string, TunnelStatus][] = spoke === null ? [['hub', hub]] : [['hub', hub], ['spoke', spoke]]
  return { ends, peers: ['hub', 'spoke'], silent: [], reportedAt: new Map([['hub', NOW], ['spoke', NOW]]), ...changes }
}

test('an SA of both ends is one row, whose directions are the other way round', () => {
  const rows = childRows(reports(end(sa('net', 'aaaaaaaa', 'bbbbbbbb')), end(sa('net', 'bbbbbbbb', 'aaaaaaaa'))))
  expect(rows).toHaveLength(1)
  expect(rows[0]?.child).toBe('net')
  expect([isSa(rows[0]?.ends.hub), isSa(rows[0]?.ends.spoke)]).toEqual([true, true])
})

test('children are in order of names, the newest SA of each first', () => {
  const hub = end(sa('b', '00000001', '00000002'), sa('a', '00000003', '00000004', 90), sa('a', '00000005', '00000006', 10))
  expect(childRows(reports(hub, end())).map((row) => row.key)).toEqual(['hub 00000005 00000006', 'hub 00000003 00000004', 'hub 00000001 00000002'])
})

test('SAs with the same SPIs in the same directions are two', () => {
  expect(childRows(reports(end(sa('net', '00000001', '00000002')), end(sa('net', '00000001', '00000002'))))).toHaveLength(2)
})

test('an end without the SA says why', () => {
  const hub = end(sa('net', '00000001', '00000002', 5))
  const why = (spoke: TunnelStatus | null, changes: Partial<Reports> = {}) => childRows(reports(hub, spoke, changes))[0]?.ends.spoke
  expect(why(end())).toBe('absent')
  expect(why(end(), { reportedAt: new Map([['spoke', NOW - 8_000]]) })).toBe('not yet')
  expect(why(end(), { silent: ['spoke'] })).toBe('silent')
  expect(why(null)).toBe('no report')
})
