import { describe, expect, test } from 'vitest'

import { matches, parseQuery, suggestions } from '../src/lib/query'
import { NOW, row } from './fleet'

const context = { now: NOW, tagsOf: (peer: string) => (peer.startsWith('spoke') ? ['branch'] : ['hub']) }
const down = row('hub+spoke-1', { state: 'down', reason: 'ts-mismatch', since: NOW - 2 * 3_600_000 })
const up = row('lab-a+lab-b', { policy: 'lab' })

function names(text: string): string[] {
  return [down, up].filter((it) => matches(parseQuery(text), it, context)).map((it) => it.name)
}

describe('a query', () => {
  test.each([
    ['', [down.name, up.name]],
    ['state:down', [down.name]],
    ['state:down,up', [down.name, up.name]],
    ['-state:down', [up.name]],
    ['tag:branch', [down.name]],
    ['peer:lab-a', [up.name]],
    ['-policy:lab', [down.name]],
    ['reason:ts-mismatch', [down.name]],
    ['age:>1h', [down.name]],
    ['age:<2m', [up.name]],
    ['age:>=2h', [down.name]],
    ['spoke', [down.name]],
    ['SPOKE', [down.name]],
    ['-spoke', [up.name]],
    ['state:down tag:branch age:>1h -policy:lab', [down.name]],
    ['state:down policy:lab', []],
  ])('%s', (text, expected) => expect(names(text)).toEqual(expected))

  test('a tunnel whose state has no known beginning has no age', () => {
    expect(matches(parseQuery('age:<1h'), row('a+b', { since: null }), context)).toBe(false)
  })

  test.each([
    ['stat:down', 'unknown field "stat": must be one of state, tag'],
    ['state:bad', 'state: unknown state "bad"'],
    ['age:soon', 'age: must be a duration such as >1h'],
    ['tag:', 'tag: a value is missing, as in tag:branch'],
  ])('%s is refused in words, and filters nothing', (text, message) => {
    const query = parseQuery(text)
    expect(query.errors.join()).toContain(message)
    expect(names(text)).toHaveLength(2)
  })

  test('fields, then values are suggested, after what is written', () => {
    expect(suggestions('state:down -po', {})).toEqual(['state:down -policy:'])
    expect(suggestions('tag:b', { tag: ['branch', 'hub'] })).toEqual(['tag:branch'])
    expect(suggestions('state:de', {})).toEqual(['state:degraded'])
  })
})
