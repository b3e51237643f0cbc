import { describe, expect, test, vi } from 'vitest'

import { RowStore } from '../src/lib/fleet/merge'
import { LiveStream, type LiveState } from '../src/lib/live'
import { SseParser } from '../src/lib/sse'
import { row } from './fleet'

describe('rows merged from replies', () => {
  test('a slow listing does not put back what a later question has found', () => {
    const store = new RowStore()
    const listing = store.ask()
    const single = store.ask()
    store.put(single, [row('a+b', { state: 'down' })])
    store.put(listing, [row('a+b', { state: 'up' }), row('c+d')])
    expect(store.rows().map((it) => [it.name, it.state])).toEqual([['a+b', 'down'], ['c+d', 'up']])
  })

  test('what a complete listing does not name is gone, but for what was found since', () => {
    const store = new RowStore()
    store.put(store.ask(), [row('old+gone')])
    const listing = store.ask()
    store.put(store.ask(), [row('new+er')])
    store.put(listing, [row('a+b')])
    store.finish(listing)
    expect(store.rows().map((it) => it.name)).toEqual(['a+b', 'new+er'])
  })

  test('a removed tunnel is not put back by an older listing', () => {
    const store = new RowStore()
    store.put(store.ask(), [row('a+b')])
    const listing = store.ask()
    store.remove(store.ask(), 'a+b')
    store.put(listing, [row('a+b')])
    expect(store.rows()).toEqual([])
    store.put(store.ask(), [row('a+b')])
    expect(store.rows()).toHaveLength(1)
  })
})

describe('server-sent events', () => {
  const TEXT = 'retry: 2000\n\n: connected\n\nid: 7\nevent: warren.tunnel.changed.v1\ndata: {"a":1}\n\ndata: x\ndata: y\n\n'

  test.each([1, 2, 7, 1_000])('in pieces of %i', (size) => {
    const parser = new SseParser()
    const found = []
    for (let at = 0; at < TEXT.length; at += size) found.push(...parser.push(TEXT.slice(at, at + size)))
    expect(found).toEqual([
      { id: '7', event: 'warren.tunnel.changed.v1', data: '{"a":1}' },
      { id: '7', event: 'message', data: 'x\ny' },
    ])
  })
})

describe('the live stream', () => {
  function reply(text: string): Response {
    return new Response(text, { headers: { 'content-type': 'text/event-stream' } })
  }

  test('resumes after the last event, and says when it is lost', async () => {
    vi.useFakeTimers()
    const asked: (string | null)[] = []
    const states: LiveState[] = []
    const events: string[] = []
    const request = (_: unknown, init?: RequestInit): Promise<Response> => {
      asked.push(new Headers(init?.headers).get('last-event-id'))
      return Promise.resolve(reply(`id: ${asked.length}\ndata: ${asked.length}\n\n`))
    }
    const live = new LiveStream(
      '/api/events',
      { event: (it) => events.push(it.data), connected: () => undefined, state: (it) => states.push(it) },
      request as typeof fetch,
    )
    live.start()
    await vi.waitUntil(() => asked.length >= 3, { timeout: 20_000 })
    live.stop()
    vi.useRealTimers()
    expect(asked.slice(0, 3)).toEqual([null, '1', '2'])
    expect(events.slice(0, 2)).toEqual(['1', '2'])
    expect(states.slice(0, 4)).toEqual(['connecting', 'live', 'lost', 'live'])
  })

  test('does not go on when nobody is signed in', async () => {
    let asked = 0
    const states: LiveState[] = []
    const request = (): Promise<Response> => {
      asked += 1
      return Promise.resolve(new Response('', { status: 401 }))
    }
    new LiveStream('/x', { event: () => undefined, connected: () => undefined, state: (it) => states.push(it) }, request as typeof fetch).start()
    await vi.waitUntil(() => asked === 1)
    await Promise.resolve()
    expect(states).toEqual(['connecting'])
  })
})
