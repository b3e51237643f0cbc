import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import openapiText from '../../openapi.json?raw'
import type { PolicyDraft } from '../src/lib/policy/draft.svelte'
import { TEMPLATE } from '../src/lib/policy/text'

const POLICY = { id: 'branches', topology: { kind: 'mesh', members: ['tag=branch'] } }

/** The API with one policy at `version`; it plans and stores whatever it is sent. */
function serve(api: { version: number }): void {
  const Native = Request
  vi.stubGlobal('Request', class extends Native { constructor(url: string, init: RequestInit) { super(new URL(url, 'https://warren.example'), init) } })
  vi.stubGlobal('fetch', (asked: Request | string) => {
    const path = typeof asked === 'string' ? asked : new URL(asked.url).pathname
    if (path.endsWith('openapi.json')) return Promise.resolve(new Response(openapiText))
    if (path.endsWith(':apply')) api.version += 1
    if (path.endsWith(':apply')) return Promise.resolve(Response.json({ revision: 9 }))
    if (path.endsWith(':plan')) return Promise.resolve(Response.json({ policies: [{ id: 'branches', version: api.version }], warnings: [], mark: {} }))
    return Promise.resolve(Response.json({ policy: { ...POLICY, version: api.version }, actor: 'ann', updated_at: '2026-01-01T12:00:00Z' }))
  })
}

afterEach(() => vi.unstubAllGlobals())
beforeEach(() => vi.resetModules())

async function draftOf(id: string | null): Promise<PolicyDraft> {
  const { PolicyDraft } = await import('../src/lib/policy/draft.svelte')
  const draft = new PolicyDraft()
  expect(draft.unsaved).toBe(false) // nothing is loaded yet
  await draft.load(id)
  return draft
}

describe('a draft', () => {
  test('has unsaved edits until its text is the stored one again, discarded, or applied', async () => {
    serve({ version: 3 })
    const draft = await draftOf('branches')
    expect(draft.unsaved).toBe(false)
    const stored = draft.text
    draft.edit(`${stored}priority: 7\n`)
    expect(draft.unsaved).toBe(true)
    draft.edit(stored)
    expect(draft.unsaved).toBe(false)
    draft.edit(`${stored}priority: 8\n`)
    draft.reset()
    expect([draft.unsaved, draft.text]).toEqual([false, stored])
    draft.edit(`${stored}priority: 9\n`)
    await draft.check()
    expect(draft.unsaved).toBe(true) // a plan stores nothing
    expect(await draft.apply()).not.toBeNull()
    expect(draft.unsaved).toBe(false)
  })

  test('of a new policy has none while it is the template', async () => {
    serve({ version: 0 })
    const draft = await draftOf(null)
    expect([draft.unsaved, draft.text]).toEqual([false, TEMPLATE])
    draft.edit('id: lab\n')
    expect(draft.unsaved).toBe(true)
    draft.edit(TEMPLATE)
    expect(draft.unsaved).toBe(false)
  })

  test('resumes an edit; what was stored meanwhile is a conflict', async () => {
    const api = { version: 3 }
    serve(api)
    const first = await draftOf('branches')
    first.edit(`${first.text}priority: 7\n`)
    const same = await draftOf('branches')
    same.resume(first.snapshot)
    expect([same.text, same.base, same.unsaved, same.conflict]).toEqual([first.text, 3, true, null])
    api.version = 4
    const later = await draftOf('branches')
    later.resume(first.snapshot)
    expect([later.text, later.base, later.unsaved, later.conflict?.policy.version]).toEqual([first.text, 3, true, 4])
    expect(later.canApply).toBe(false)
  })
})

describe('leaving', () => {
  async function watched() {
    const { unsavedEdits } = await import('../src/lib/unsaved.svelte')
    const edits = { unsaved: true, reset: () => void (edits.unsaved = false) }
    return { unsavedEdits, edits, leave: vi.fn(), unwatch: unsavedEdits.watch(edits) }
  }

  test('is at once without unsaved edits', async () => {
    const { unsavedEdits, edits, leave } = await watched()
    edits.unsaved = false
    unsavedEdits.before(leave)
    expect([leave.mock.calls.length, unsavedEdits.asks]).toEqual([1, false])
  })

  test('waits for the user: keep', async () => {
    const { unsavedEdits, edits, leave } = await watched()
    unsavedEdits.before(leave)
    expect([leave.mock.calls.length, unsavedEdits.asks]).toEqual([0, true])
    unsavedEdits.keep()
    expect([leave.mock.calls.length, unsavedEdits.asks, edits.unsaved]).toEqual([0, false, true])
  })

  test('waits for the user: discard', async () => {
    const { unsavedEdits, edits, leave } = await watched()
    unsavedEdits.before(leave)
    unsavedEdits.discard()
    expect([leave.mock.calls.length, unsavedEdits.asks, edits.unsaved]).toEqual([1, false, false])
  })

  test('ends the question with the view, as when the session expires', async () => {
    const { unsavedEdits, leave, unwatch } = await watched()
    unsavedEdits.before(leave)
    unwatch()
    expect([unsavedEdits.asks, unsavedEdits.present]).toEqual([false, false])
  })
})

test('an interrupted edit is for its user and its policy, once', async () => {
  const { interruptedEdit } = await import('../src/lib/policy/interrupted.svelte')
  const edit = { text: 'a', original: 'b', base: 3, stored: null }
  interruptedEdit.store('ann', 'branches', edit)
  expect(interruptedEdit.take('ann', 'lab')).toBeNull()
  expect(interruptedEdit.take('ann', 'branches')).toBe(edit)
  expect(interruptedEdit.take('ann', 'branches')).toBeNull()
  interruptedEdit.store('ann', 'branches', edit)
  expect(interruptedEdit.take('bob', 'branches')).toBeNull()
  expect([interruptedEdit.take('ann', 'branches'), interruptedEdit.present]).toEqual([null, false])
})

test('one view of one thing is one place, whatever its parameters', async () => {
  const { isSamePlace, placeOf } = await import('../src/lib/routes')
  expect(isSamePlace(placeOf('/policies/%2Bnew'), placeOf('/policies/+new'))).toBe(true)
  for (const other of ['/policies', '/policies/lab', '/peers/branches', '/nowhere']) {
    expect(isSamePlace(placeOf(other), placeOf('/policies/branches'))).toBe(false)
  }
  expect(isSamePlace(placeOf('/nowhere'), placeOf('/elsewhere'))).toBe(false)
})

describe('the router', () => {
  /** A window with its history, as far as the router uses them: steps come as events, after the call. */
  async function opened(path: string) {
    const entries: { path: string; state: unknown }[] = [{ path, state: null }]
    let at = 0
    const window = new EventTarget()
    const location = { get pathname() { return entries[at]!.path }, search: '', origin: 'https://warren.example' }
    const step = async (by: number): Promise<void> => {
      await Promise.resolve()
      at += by
      window.dispatchEvent(new Event('popstate'))
    }
    vi.stubGlobal('window', Object.assign(window, { scrollTo: () => undefined }))
    vi.stubGlobal('document', new EventTarget())
    vi.stubGlobal('location', location)
    vi.stubGlobal('history', {
      get state() { return entries[at]!.state },
      pushState: (state: unknown, _: string, to: string) => void (entries.splice(++at, Infinity, { path: to, state })),
      replaceState: (state: unknown, _: string, to = entries[at]!.path) => void (entries[at] = { path: to, state }),
      go: (by: number) => void step(by),
    })
    const { router } = await import('../src/lib/router.svelte')
    const { unsavedEdits } = await import('../src/lib/unsaved.svelte')
    const edits = { unsaved: false, reset: () => void (edits.unsaved = false) }
    unsavedEdits.watch(edits)
    return { router, unsavedEdits, edits, step, address: () => location.pathname }
  }
  const settled = () => new Promise((resolve) => setTimeout(resolve))

  test.each([-1, -2, 1])('takes a step of %i from unsaved edits back, and again when they are discarded', async (steps) => {
    const { router, unsavedEdits, edits, step, address } = await opened('/')
    for (const path of ['/policies', '/policies/branches', '/peers']) router.go(path)
    await step(-1)
    expect(router.path).toBe('/policies/branches')
    edits.unsaved = true
    await step(steps)
    await settled()
    expect([router.path, address(), unsavedEdits.asks]).toEqual(['/policies/branches', '/policies/branches', true])
    unsavedEdits.keep()
    await step(steps)
    await settled()
    expect([router.path, unsavedEdits.asks]).toEqual(['/policies/branches', true])
    unsavedEdits.discard()
    await settled()
    const target = { [-1]: '/policies', [-2]: '/', 1: '/peers' }[steps]
    expect([router.path, address(), unsavedEdits.asks]).toEqual([target, target, false])
  })

  test('asks nothing for a step within the view', async () => {
    const { router, unsavedEdits, edits, step } = await opened('/policies/branches')
    router.go('/policies/branches')
    edits.unsaved = true
    await step(-1)
    await settled()
    expect(unsavedEdits.asks).toBe(false)
  })
})
