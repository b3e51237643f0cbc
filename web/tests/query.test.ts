import { describe, expect, test } from 'vitest'

import CASES from '../../tunnel-queries.json'
import { toRow, type FleetTunnel } from '../src/lib/fleet/rows'
import { matches, parseQuery, suggestions } from '../src/lib/query'

const rows = CASES.tunnels.map((tunnel) => toRow({ stale: [], disagreement: '', reported_at: {}, ...tunnel } as unknown as FleetTunnel))
const tags = CASES.tags as Record<string, string[]>
const context = { now: Date.parse(CASES.now), tagsOf: (peer: string) => tags[peer] ?? [] }

describe('the cases that every implementation must pass', () => {
  test.each(CASES.cases)('$query', ({ query, names, invalid }) => {
    const parsed = parseQuery(query)
    expect(parsed.errors.length > 0).toBe(invalid ?? false)
    if (names !== undefined) expect(rows.filter((row) => matches(parsed, row, context)).map((row) => row.name)).toEqual(names)
  })
})

test.each([
  ['stat:down', 'unknown field "stat": must be one of name, state'],
  ['state:bad', 'unknown state "bad": must be one of up'],
  ['age:soon', 'an age is a comparison'],
  ['tag:', 'a value is missing'],
])('%s is refused in words, and filters nothing', (text, message) => {
  const query = parseQuery(text)
  expect(query.errors.join()).toContain(message)
  expect(rows.filter((row) => matches(query, row, context))).toHaveLength(rows.length)
})

test('fields, then values are suggested, after what is written', () => {
  expect(suggestions('state:down -po', {})).toEqual(['state:down -policy:'])
  expect(suggestions('tag:b', { tag: ['branch', 'hub'] })).toEqual(['tag:branch'])
  expect(suggestions('state:de', {})).toEqual(['state:degraded'])
})
