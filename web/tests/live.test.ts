import { describe, expect, test, vi } from 'vitest'

import { RowStore } from '../src/lib/fleet/merge'
import type { LiveTunnel } from '../src/lib/fleet/rows'
import { LiveStream, overServerSentEvents, overWebSocket, type LiveMessage, type LiveState } from '../src/lib/live'
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

  test('a change of the live stream is newer than a listing that was asked for before, whose counters count', () => {
    const store = new RowStore()
    const listing = store.ask()
    store.live([live('a+b', { state: 'down' })])
    expect(store.rows()[0]).toMatchObject({ state: 'down', bytesIn: null })
    store.put(listing, [row('a+b', { state: 'up', bytesIn: 7, cipher: 'aes' })])
    expect(store.rows()[0]).toMatchObject({ state: 'down', bytesIn: 7, cipher: 'aes' })
    store.live([live('a+b', { state: 'up' })])
    expect(store.rows()[0]).toMatchObject({ state: 'up', bytesIn: 7 })
  })

  test('what a snapshot does not name is gone, and the others are in order', () => {
    const store = new RowStore()
    store.live([live('b+c'), live('old+gone')])
    expect(store.rows()).toHaveLength(2)
    const snapshot = store.ask()
    store.live([live('b+c')])
    store.live([live('a+b')])
    store.finish(snapshot)
    expect(store.rows().map((it) => it.name)).toEqual(['a+b', 'b+c'])
  })
})

function live(name: string, changes: Partial<LiveTunnel> = {}): LiveTunnel {
  return { name, state: 'up', peers: name.split('+'), ...changes } as LiveTunnel
}

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
  /** A WebSocket without a network: it sends `messages` once it is open, and then closes with `code`. */
  class Socket {
    onmessage: ((event: { data: string }) => void) | null = null
    onclose: ((event: { code: number }) => void) | null = null

    constructor(messages: readonly object[], code = 1_006) {
      queueMicrotask(() => {
        for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) })
        this.onclose?.({ code })
      })
    }

    close(): void {
      this.onclose?.({ code: 1_000 })
    }
  }
  const READY = { kind: 'ready', cursor: '5' }

  function sockets(replies: (url: string) => Socket) {
    return overWebSocket((url) => replies(url) as unknown as WebSocket)
  }

  function events(text: string, status = 200): Response {
    return new Response(text, { status, headers: { 'content-type': 'text/event-stream' } })
  }

  /** Run a stream until `done`; what it received, and the states. */
  async function run(transports: ConstructorParameters<typeof LiveStream>[2], done: (seen: { kinds: string[]; states: string[] }) => boolean) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    vi.stubGlobal('location', { href: 'https://warren.example/tunnels' })
    const seen = { kinds: [] as string[], states: [] as string[], received: 0 }
    const stream = new LiveStream(
      '/api/live',
      {
        message: (message: LiveMessage) => seen.kinds.push(message.kind),
        received: () => (seen.received += 1),
        state: (state: LiveState, reason) => seen.states.push(reason === '' ? state : `${state}: ${reason}`),
      },
      transports,
    )
    stream.start()
    for (let turn = 0; turn < 200 && !done(seen); turn++) await vi.advanceTimersByTimeAsync(100)
    stream.stop()
    vi.useRealTimers()
    vi.unstubAllGlobals()
    return seen
  }

  test('is live once the snapshot is complete, and continues after the last cursor', async () => {
    const urls: string[] = []
    const socket = sockets((url) => {
      urls.push(url)
      return new Socket([{ kind: 'snapshot' }, READY, { kind: 'change', cursor: String(5 + urls.length) }])
    })
    const { kinds, states } = await run([socket], () => urls.length === 2)
    expect(urls).toEqual(['wss://warren.example/api/live', 'wss://warren.example/api/live?cursor=6'])
    expect(kinds.slice(0, 3)).toEqual(['snapshot', 'ready', 'change'])
    expect(states.slice(0, 3)).toEqual(['connecting', 'live', 'lost'])
  })

  test('is never live without a complete snapshot', async () => {
    let opened = 0
    const socket = sockets(() => new Socket([{ kind: 'snapshot' }, ...(opened++ > 0 ? [READY] : [])]))
    const { states } = await run([socket], (seen) => seen.states.includes('live'))
    expect(states.slice(0, 3)).toEqual(['connecting', 'lost', 'live'])
  })

  test('shows why the server has dropped it, and begins again after a reset', async () => {
    const urls: string[] = []
    const socket = sockets((url) => {
      urls.push(url)
      return new Socket([{ kind: 'snapshot' }, READY, { kind: 'dropped', reason: urls.length === 1 ? 'slow-reader: too slow' : 'reset: gone' }], 1_013)
    })
    const { states } = await run([socket], () => urls.length === 3)
    expect(states.filter((it) => it.startsWith('lost')).slice(0, 2)).toEqual(['lost: slow-reader: too slow', 'lost: reset: gone'])
    expect(urls.slice(0, 3).map((url) => new URL(url).search)).toEqual(['', '?cursor=5', ''])
  })

  test('comes as server-sent events where no WebSocket opens', async () => {
    const asked: (string | null)[] = []
    const request = ((_: unknown, init?: RequestInit) => {
      asked.push(new Headers(init?.headers).get('last-event-id'))
      return Promise.resolve(events('event: snapshot\ndata: {"kind":"snapshot"}\n\nid: 5\nevent: ready\ndata: {"kind":"ready","cursor":"5"}\n\n: alive\n\n'))
    }) as typeof fetch
    const { kinds, states, received } = await run([sockets(() => new Socket([])), overServerSentEvents(request)], () => asked.length === 2)
    expect(asked).toEqual([null, '5'])
    expect(received).toBeGreaterThan(kinds.length) // a keepalive says nothing, and that somebody is there
    expect(kinds.slice(0, 2)).toEqual(['snapshot', 'ready'])
    expect(states.slice(0, 3)).toEqual(['connecting', 'live', 'lost'])
  })

  test.each([
    ['refused', () => new Socket([])],
    ['closed since its token was removed', () => new Socket([{ kind: 'snapshot' }, READY], 4_401)],
  ])('ends when nobody is signed in: %s', async (_, socket) => {
    let asked = 0
    const request = (() => {
      asked += 1
      return Promise.resolve(events('', 401))
    }) as typeof fetch
    const { states } = await run([sockets(socket), overServerSentEvents(request)], () => asked > 0)
    await Promise.resolve()
    expect(asked).toBe(1)
    expect(states).not.toContain('lost')
  })
})
