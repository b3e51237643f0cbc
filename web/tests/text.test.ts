import { describe, expect, test } from 'vitest'

import { csv } from '../src/lib/csv'
import { share, stripCells } from '../src/lib/fleet/strip'
import { reasonWords } from '../src/lib/reasons'
import { afterSignIn, pathOf, placeOf } from '../src/lib/routes'
import { parseSorting, sorted, sortingText } from '../src/lib/ui/sorting'

describe('CSV', () => {
  test('quotes what needs it, and disarms formulas', () => {
    expect(csv(['a', 'b'], [['x,"y"', 1], ['=HYPERLINK("x")', null]])).toBe('a,b\r\n"x,""y""",1\r\n"\'=HYPERLINK(""x"")",\r\n')
  })

  // With a decimal comma, spreadsheets take semicolons for the ends of cells, and quotes inside of an unquoted cell for text.
  test.each([
    ['x;=1+1', '"x;\'=1+1"'], ['x;\t@SUM(A1)', '"x;\t\'@SUM(A1)"'], ['\t=1', '"\t\'=1"'], ['x\n+cmd', '"x\n\'+cmd"'], [' =1', "' =1"], ['＝1', "'＝1"], ['x - 1, -2', '"x - 1, -2"'],
  ])('%j holds no formula in another reading either', (text, written) => {
    expect(csv([], [[text]])).toBe(`\r\n${written}\r\n`)
  })
})

describe('routes', () => {
  test.each([['/', '', ''], ['/tunnels', 'tunnels', ''], ['/tunnels/hub%2Bspoke', 'tunnels', 'hub+spoke']])('%s', (path, view, name) => {
    expect(placeOf(path)).toEqual({ view, name })
  })
  test.each(['/nothing', '/tunnels/a/b', '/tunnels/%E0%A4%A', '/api/policies'])('%s is none', (path) => expect(placeOf(path)).toBeNull())
  test.each([
    ['', '/'], ['/tunnels?q=state:down', '/tunnels?q=state:down'], ['//evil.example/tunnels', '/'], ['/\\evil.example', '/'], ['https://evil.example/', '/'],
    ['javascript:alert(1)', '/'], ['http://', '/'], ['https://[', '/'], ['/sign-in?to=/sign-in', '/'], ['/api/policies', '/'], ['\t//evil.example', '/'],
  ])('a sign-in that asks for %j leads to %s', (asked, path) => expect(afterSignIn(asked, 'https://warren.example')).toBe(path))
  test('a path leads back to its place', () => expect(placeOf(pathOf('policies', '+new'))).toEqual({ view: 'policies', name: '+new' }))
})

describe('sorting', () => {
  const rows = [{ key: 2 }, { key: null }, { key: 1 }]
  test('puts rows without a key last, either way', () => {
    expect(sorted(rows, (it) => it.key, false).map((it) => it.key)).toEqual([1, 2, null])
    expect(sorted(rows, (it) => it.key, true).map((it) => it.key)).toEqual([2, 1, null])
  })
  test('is in the address bar; an unknown column is not', () => {
    const initial = { column: 'name', descending: false }
    expect(sortingText(parseSorting('-state', ['state'], initial))).toBe('-state')
    expect(parseSorting('-bad', ['state'], initial)).toEqual(initial)
  })
})

test('a reason code is shown in words', () => {
  expect(reasonWords('peer-not-answering')).toBe('Peer not answering')
})

test('the bar of the past shows the worst state of each time, and where nothing is known', () => {
  const strip = { start: '2026-01-01T00:00:00Z', bucket_seconds: 60, buckets: [{ up: 60 }, { up: 50, down: 10 }, {}], up_ratio: 0.9 }
  expect(stripCells(strip as never).map((cell) => cell.state)).toEqual(['up', 'down', null])
  expect(share(strip as never)).toBe('up 90.00 % of the 2 min that are known')
  expect(share({ ...strip, buckets: [{ up: 54, down: 6 }, { up: 54, down: 6 }] } as never)).toBe('up 90.00 %')
  expect(share({ ...strip, up_ratio: null } as never)).toBe('not known')
})
