import { expect, test } from 'vitest'

import { largest, path, sum } from '../src/lib/fleet/traffic'

test('unknown minutes are gaps of the line, and zero is a line', () => {
  expect(path([10, 0, null, null, 5], 10, 60)).toBe('M0 0.0H1V60.0H2M4 30.0H5')
  expect(path([null, null], 1, 60)).toBe('')
})

test('a sum of nothing known is not zero', () => {
  expect([sum([null, 3, 4]), sum([null]), sum([0])]).toEqual([7, null, 0])
})

test('the scale of no traffic is not zero', () => {
  expect([largest([null, 0], [0]), largest([1, 7], [3])]).toEqual([1, 7])
})
