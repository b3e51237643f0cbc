import { expect, test } from 'vitest'

import { sorted, SortedRows, type SortedView, type SortKey } from '../src/lib/ui/sorting'

interface Entry {
  name: string
  value: SortKey
}
const byValue = (row: Entry): SortKey => row.value

function listed(view: SortedView<Entry>): (Entry | undefined)[] {
  return Array.from({ length: view.length }, (_, index) => view.at(index))
}

/** Numbers that look random and are the same in each run (a linear congruential generator, Numerical Recipes). */
function* numbers(): Generator<number> {
  for (let state = 7; ; ) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    yield state
  }
}

test('rows without a key come last in either direction', () => {
  const rows = [{ name: 'a', value: null }, { name: 'b', value: 2 }, { name: 'c', value: 1 }]
  expect(sorted(rows, byValue, false).map((it) => it?.name)).toEqual(['c', 'b', 'a'])
  expect(sorted(rows, byValue, true).map((it) => it?.name)).toEqual(['b', 'c', 'a'])
})

test('rows that are brought up to date have the order of all rows sorted again', () => {
  const random = numbers()
  const next = (below: number): number => (random.next().value as number) % below
  for (const descending of [false, true]) {
    const held = new Map<string, Entry>()
    const kept = new SortedRows<Entry>((row) => row.name)
    for (let round = 0; round < 200; round += 1) {
      for (let count = next(4); count > 0; count -= 1) {
        const name = `row-${String(next(120)).padStart(3, '0')}`
        if (next(4) === 0) held.delete(name)
        else held.set(name, { name, value: next(10) === 0 ? null : next(6) })
      }
      const rows = [...held.values()].filter((row) => round % 50 < 25 || row.value !== 3)
      if (round % 20 < 15) rows.sort((a, b) => (a.name < b.name ? -1 : 1)) // else in any order
      expect(listed(kept.of(rows, byValue, descending))).toEqual(sorted(rows, byValue, descending))
    }
  }
})

test('what has not changed is the same view, and another order is another one', () => {
  const kept = new SortedRows<Entry>((row) => row.name)
  const rows = [{ name: 'a', value: 2 }, { name: 'b', value: 1 }]
  const first = kept.of(rows, byValue, false)
  expect(kept.of(rows, byValue, false)).toBe(first)
  expect(listed(kept.of(rows, byValue, true)).map((it) => it?.name)).toEqual(['a', 'b'])
  expect(listed(first).map((it) => it?.name)).toEqual(['b', 'a'])
})
