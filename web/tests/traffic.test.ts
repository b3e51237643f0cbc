import { expect, test } from 'vitest'

import { gaps, largest, levels, minuteAt, minutesOf, sum } from '../src/lib/fleet/traffic'

const START = Date.parse('2026-01-01T12:00:00Z')

function hour(bytesIn: (number | null)[], bytesOut = bytesIn) {
  const ends = { hub: { bytes_in: bytesIn, bytes_out: bytesOut } }
  return minutesOf({ name: 'hub+spoke', start: '2026-01-01T12:00:00Z', step_seconds: 60, ends } as never, 'hub')
}

test('a known minute is a level line, an unknown one is a gap, and zero is a line', () => {
  const { x, bytesIn, bytesOut } = levels(hour([10, null, 0], [1, null, 2]), 60)
  expect(x).toEqual([0, 59.999, 60, 119.999, 120, 179.999].map((it) => START / 1_000 + it))
  expect(bytesIn).toEqual([10, 10, null, null, 0, 0])
  expect(bytesOut).toEqual([1, 1, null, null, 2, 2])
})

test('what is unknown is marked: before, between and after the reports', () => {
  const [from, to] = [START / 1_000 - 30, START / 1_000 + 400]
  expect(gaps(hour([10, null, 0, 5]), 60, from, to).map(([begin, end]) => [begin - START / 1_000, end - START / 1_000])).toEqual([
    [-30, 0], [60, 120], [240, 400],
  ])
  expect(gaps(hour([null]), 60, from, to)).toEqual([[from, to]])
})

test('only the last minute is not over, and an end without counters has none', () => {
  expect(hour([1, 2]).map((it) => it.open)).toEqual([false, true])
  expect(minutesOf({ name: 'a', start: '2026-01-01T12:00:00Z', step_seconds: 60, ends: {} } as never, 'hub')).toEqual([])
})

test('an instant is in its minute', () => {
  const minutes = hour([1, 2])
  expect([START - 1, START, START + 59_999, START + 60_000, START + 120_000].map((at) => minuteAt(minutes, 60, at))).toEqual([null, 0, 0, 1, null])
})

test('a sum of nothing known is not zero', () => {
  expect([sum([null, 3, 4]), sum([null]), sum([0])]).toEqual([7, null, 0])
})

test('the scale of no traffic is not zero', () => {
  expect([largest([null, 0], [0]), largest([1, 7], [3])]).toEqual([1, 7])
})
