import { afterEach, describe, expect, test, vi } from 'vitest'

import openapiText from '../../openapi.json?raw'
import { offersAt } from '../src/lib/policy/completion'
import { placeOf } from '../src/lib/policy/cursor'
import { countsOf, hardestFirst } from '../src/lib/policy/effects'
import { PolicySchema } from '../src/lib/policy/schema'
import type { PolicyPlan } from '../src/lib/policy/revisions'
import { findingsOf, parseText, textOf } from '../src/lib/policy/text'

const openapi = JSON.parse(openapiText)
const schema = new PolicySchema(openapi.components.schemas)
const TEXT = `# a comment
id: branches
topology:
  kind: hub-spoke
  hubs: [tag=hub]
  spokes:
    - tag=branch
    - tag=brnch
tunnels:
- name: berlin
  ends:
    - peer: a
    - addresses: [192.0.2.1]
`

describe('the text of a policy', () => {
  test.each([
    ['policies/0/topology/spokes/1', 8],
    ['policies/0/topology/spokes', 6],
    ['policies/0/topology/nothing', 3],
    ['policies/0/tunnels/0/ends/1/addresses', 13],
    ['policies/0', 2],
    ['(root)', 2],
  ])('%s is at line %i', (field, line) => {
    expect(findingsOf(TEXT, [{ field, message: 'wrong' }], 'error')[0]?.line).toBe(line)
  })

  test.each([
    ['a: 1\na: 2\n', 2, 'unique'],
    ['id: [\n', 2, ''],
    ['just words', 1, 'a policy is a mapping'],
    ['x: &a [1]\ny: *a\n', 1, 'aliases'],
  ])('%j is found at line %i', (text, line, words) => {
    const { policy, findings } = parseText(text)
    expect(policy).toBeNull()
    expect(findings[0]?.line).toBe(line)
    expect(findings[0]?.message.toLowerCase()).toContain(words)
  })

  test('is read as YAML 1.2', () => {
    expect(parseText('a: yes\nb: 010\n').policy).toEqual({ a: 'yes', b: 10 })
  })

  test('leaves out defaults and the version, and keeps what is required', () => {
    const policy = {
      id: 'x', name: '', description: 'd', priority: 100, version: 7, enabled: true, applies_to: [], tunnels: [],
      topology: { kind: 'hub-spoke', hubs: ['tag=hub'], spokes: ['tag=branch'], transit: false, pools: [] },
      options: { ike: { dpd_delay: 999 }, child: {} }, auth: { kind: 'raw-key' }, protect: 'always',
    }
    const text = textOf(policy as never, schema)
    const read = parseText(text).policy
    expect(read).toEqual({
      id: 'x', description: 'd', topology: { kind: 'hub-spoke', hubs: ['tag=hub'], spokes: ['tag=branch'] },
      options: { ike: { dpd_delay: 999 } },
    })
  })
})

describe('the cursor', () => {
  test.each([
    ['top', [], null, 'top'],
    ['topology:\n  ki', ['topology'], null, 'ki'],
    ['topology:\n  kind: hub', ['topology'], 'kind', 'hub'],
    ['topology:\n  hubs: [tag=a, ta', ['topology'], 'hubs', 'ta'],
    ['topology:\n  hubs:\n    - ta', ['topology', 'hubs', 0], null, 'ta'],
    ['topology:\n  hubs:\n  - x\n  - ta', ['topology', 'hubs', 1], null, 'ta'],
    ['tunnels:\n- name: a\n  en', ['tunnels', 0], null, 'en'],
    ['tunnels:\n  - name: a\n    ends:\n      - peer: x\n      - pe', ['tunnels', 0, 'ends', 1], null, 'pe'],
    ['tunnels:\n  - name: a\ncry', [], null, 'cry'],
  ])('%j', (before, path, key, word) => expect(placeOf(before)).toEqual({ path, key, word }))
})

describe('completion', () => {
  const fleet = { tags: ['branch', 'hub'], peers: ['hub-1'] }
  // The last text that could be parsed: without the line that is being written, where it cannot.
  const lastParsed = (before: string) => parseText(before).policy ?? parseText(before.slice(0, before.lastIndexOf('\n') + 1)).policy
  const labels = (before: string): string[] => offersAt(before, lastParsed(before), schema, fleet).offers.map((it) => it.label)

  test('of fields, without those that are there', () => {
    expect(labels('id: x\nto')).toContain('topology: ')
    expect(labels('id: x\nto')).not.toContain('id: ')
    expect(labels('topology:\n  kind: hub-spoke\n  s')).toContain('spokes: ')
    expect(labels('topology:\n  kind: hub-spoke\n  s')).not.toContain('sites: ')
  })

  test('of words, kinds, tags and peers', () => {
    expect(labels('protect: a')).toContain('when-applied')
    expect(labels('enabled: ')).toEqual(['true', 'false'])
    expect(labels('topology:\n  kind: ')).toEqual(expect.arrayContaining(['hub-spoke', 'mesh', 'site-to-site']))
    expect(labels('topology:\n  kind: hub-spoke\n  hubs: [')).toEqual(expect.arrayContaining(['tag=hub', 'peer=hub-1']))
    expect(labels('topology:\n  kind: hub-spoke\n  hubs:\n    - ')).toContain('tag=branch')
  })
})

describe('the versions of a policy', () => {
  const ALL = 250
  const asked: number[] = []

  /** The module with an API that has revisions ALL to 1, in pages of 100. */
  async function module() {
    asked.length = 0
    vi.resetModules()
    const Native = Request
    vi.stubGlobal('Request', class extends Native { constructor(url: string, init: RequestInit) { super(new URL(url, 'https://warren.example'), init) } })
    vi.stubGlobal('fetch', (request: Request) => {
      const from = Number(new URL(request.url).searchParams.get('before')) || ALL + 1
      asked.push(from)
      const versions = Array.from({ length: Math.min(100, from - 1) }, (_, index) => ({ version: from - 1 - index, revision: from - 1 - index }))
      const last = versions.at(-1)?.revision ?? 1
      return Promise.resolve(Response.json({ versions, next_before: last > 1 ? last : null }))
    })
    return import('../src/lib/policy/revisions')
  }
  afterEach(() => vi.unstubAllGlobals())

  test('come a page at a time', async () => {
    const { history } = await module()
    const first = await history('branches')
    expect([first.versions.length, first.versions[0]?.revision, first.before]).toEqual([100, 250, 151])
    const second = await history('branches', first.before ?? 0)
    expect([second.versions[0]?.revision, second.before]).toEqual([150, 51])
  })

  test('are read until one that is older than what is asked for, and no further', async () => {
    const { history } = await module()
    for (const [revision, calls] of [[250, 1], [152, 1], [151, 2], [60, 2], [51, 3], [1, 3]] as const) {
      asked.length = 0
      const found = await history('branches', 0, revision)
      expect([revision, asked.length]).toEqual([revision, calls])
      expect(found.versions.some((it) => it.revision === revision)).toBe(true)
      expect(found.versions.some((it) => it.revision < revision) || revision === 1).toBe(true)
    }
  })
})

test('a plan says what becomes of the traffic, not of the configuration: a child may have to be re-established', () => {
  const touched = [['a+b', 'child', 'rekey'], ['b+c', 'child', 're-established'], ['c+d', 'removed', 'removed'], ['a+d', 'new', 'new']]
  const plan = {
    tunnels: touched.map(([name, effect, interruption]) => ({ name, effect, interruption })),
    interruptions: { rekey: 1, 're-established': 1, removed: 1, new: 1 }, effects: { untouched: 40 },
  } as unknown as PolicyPlan
  expect(hardestFirst(plan).map((it) => it.name)).toEqual(['c+d', 'b+c', 'a+b', 'a+d'])
  expect(countsOf(plan)).toBe('1 removed, 1 re-established, 1 rekeyed, 1 new, 40 untouched')
  expect(countsOf({ ...plan, interruptions: {}, effects: { untouched: 0 } } as unknown as PolicyPlan)).toBe('none')
})
