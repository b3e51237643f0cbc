import { expect, test } from 'vitest'

import { DrawingPace } from '../src/lib/fleet/pace'

test('after a quiet time a change is drawn at once', () => {
  const pace = new DrawingPace()
  expect(pace.wait(1_000)).toBe(0)
  pace.drawn(1_000, 1_002)
  expect(pace.wait(1_002)).toBe(50)
  expect(pace.wait(1_052)).toBe(0)
  expect(pace.wait(9_000)).toBe(0)
})

test('a drawing that takes long is followed by a longer pause', () => {
  const pace = new DrawingPace()
  pace.drawn(1_000, 1_200)
  expect(pace.wait(1_200)).toBe(1_000)
  pace.drawn(2_200, 2_210)
  expect(pace.wait(2_210)).toBe(50)
})
