import { expect, test } from 'vitest'

import { detailWords, policyWords } from '../src/lib/audit'

test('a detail is in words, and what is no JSON stays as it is', () => {
  expect(detailWords('{"request":{"tags":["branch","lab"],"uses":1,"peer":null,"subnets":[]}}')).toBe(
    'request (tags: branch, lab; uses: 1; peer: none; subnets: none)',
  )
  expect([detailWords('removed'), detailWords(''), detailWords('{"name":"x"}')]).toEqual(['removed', '', 'name: x'])
})

test('a row of policies says what became of which version', () => {
  const detail = '{"created":{"lab":{"sha256":"00","version":1}},"deleted":{},"updated":{"branches":{"sha256":"00","version":2}}}'
  expect(policyWords(detail)).toBe('created lab (version 1), updated branches (version 2)')
  expect(policyWords('{"created":1')).toBe('{"created":1')
})
