import { describe, expect, test } from 'vitest'

import { csv } from '../src/lib/csv'
import { explain } from '../src/lib/reasons'
import { pathOf, placeOf } from '../src/lib/routes'
import { parseSorting, sorted, sortingText } from '../src/lib/ui/sorting'

describe('CSV', () => {
  test('quotes what needs it, and disarms formulas', () => {
    expect(csv(['a', 'b'], [['x,"y"', 1], ['=HYPERLINK("x")', null]])).toBe('a,b\r\n"x,""y""",1\r\n"\'=HYPERLINK(""x"")",\r\n')
  })
})

describe('routes', () => {
  test.each([['/', '', ''], ['/tunnels', 'tunnels', ''], ['/tunnels/hub%2Bspoke', 'tunnels', 'hub+spoke']])('%s', (path, view, name) => {
    expect(placeOf(path)).toEqual({ view, name })
  })
  test.each(['/nothing', '/tunnels/a/b', '/tunnels/%E0%A4%A', '/api/policies'])('%s is none', (path) => expect(placeOf(path)).toBeNull())
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

test('a reason that this page does not know is shown by its code', () => {
  expect(explain('brand-new' as never)).toMatchObject({ title: 'brand-new' })
  expect(explain('')).toBeNull()
  expect(explain('masquerade')?.next).toContain('masquerading')
})
