/** The fleet as the page knows it: tunnels and peers, read once, then followed by the stream of events. */
import { api, ApiError, content, everyPage, problemFrom, type Problem, type Schemas } from '../api/client'
import { serverClock } from '../clock.svelte'
import { LiveStream, type LiveState } from '../live'
import type { Message } from '../sse'
import type { Connection } from './freshness'
import { RowStore } from './merge'
import { toRow, type TunnelRow } from './rows'

export type Peer = Schemas['PeerSummary']

export const MAX_ROWS = 100_000
const PAGE = 500
const GATHER_MS = 100 // events of one change come close together
const MAX_SINGLE = 40 // more changed tunnels than these are read by the listing
const RELOAD_MS = 15_000 // counters have no event; and a state whose agent went silent with it
const RELOAD_LARGE_MS = 120_000
const LARGE = 2_000 // tunnels, whose listing takes the server a second
const EVENTS = '/api/events?kind=tunnel&kind=presence&kind=announced&kind=enrolled&kind=revoked&kind=retagged&kind=changed&kind=applied'

class Fleet {
  tunnels = $state.raw<TunnelRow[]>([])
  peers = $state.raw<ReadonlyMap<string, Peer>>(new Map())
  loaded = $state(false)
  /** There are more tunnels than the page reads. */
  truncated = $state(false)
  problem = $state.raw<Problem | null>(null)
  connection = $state.raw<Connection>({ state: 'connecting', lostAt: null })
  /** The server has another version of this page. */
  outdated = $state(false)
  /** Grows with each event about policies: views that show them read again. */
  policyChanges = $state(0)

  #store = new RowStore()
  #dirty = new Set<string>()
  #peersDirty = false
  #gathering: ReturnType<typeof setTimeout> | undefined
  #reloading: ReturnType<typeof setTimeout> | undefined
  #live: LiveStream | null = null
  #page: string | null = null

  /** Begin to follow the fleet; again after `stop`. */
  start(): void {
    if (this.#live !== null) return
    this.#live = new LiveStream(EVENTS, {
      event: (message) => this.#onEvent(message),
      connected: () => void this.#onConnected(),
      state: (state) => this.#onState(state),
    })
    this.#live.start()
  }

  /** Stop, and forget everything: another user may see less. */
  stop(): void {
    this.#live?.stop()
    this.#live = null
    clearTimeout(this.#gathering)
    clearTimeout(this.#reloading)
    this.#store = new RowStore()
    this.#dirty.clear()
    this.tunnels = []
    this.peers = new Map()
    this.loaded = false
  }

  tagsOf(peer: string): readonly string[] {
    return this.peers.get(peer)?.tags ?? []
  }

  /** Read everything again. */
  async reload(): Promise<void> {
    const store = this.#store
    const asked = store.ask()
    try {
      const [{ more }] = await Promise.all([this.#readTunnels(store, asked), this.#readPeers()])
      if (!more) store.finish(asked)
      if (store !== this.#store) return
      this.truncated = more
      this.problem = null
      this.loaded = true
      this.#show()
    } catch (error) {
      this.problem = problemFrom(error)
    }
    this.#scheduleReload()
  }

  async #readTunnels(store: RowStore, asked: number): Promise<{ more: boolean }> {
    return everyPage(
      async (after) => {
        const page = await content(api.GET('/api/tunnels', { params: { query: { after, limit: PAGE } } }))
        store.put(asked, page.tunnels.map(toRow))
        return page
      },
      (page) => page.tunnels.map((tunnel) => tunnel.name),
      MAX_ROWS,
      () => this.#show(),
    )
  }

  async #readPeers(): Promise<void> {
    const { found } = await everyPage(
      (after) => content(api.GET('/api/peers', { params: { query: { after, limit: PAGE } } })),
      (page) => page.peers,
      MAX_ROWS,
    )
    this.peers = new Map(found.map((peer) => [peer.peer, peer]))
  }

  #scheduleReload(): void {
    clearTimeout(this.#reloading)
    if (this.#live === null) return
    const pause = this.tunnels.length > LARGE ? RELOAD_LARGE_MS : RELOAD_MS
    this.#reloading = setTimeout(() => void this.reload(), pause)
  }

  #onState(state: LiveState): void {
    const lostAt = state === 'live' ? null : (this.connection.lostAt ?? serverClock.now)
    this.connection = { state, lostAt }
  }

  async #onConnected(): Promise<void> {
    void this.#checkPage()
    await this.reload()
  }

  /** Compare the page that the server has now with the one that was loaded. */
  async #checkPage(): Promise<void> {
    try {
      const tag = (await fetch('/', { method: 'HEAD' })).headers.get('etag')
      this.outdated = this.#page !== null && tag !== null && tag !== this.#page
      this.#page ??= tag
    } catch {
      // the connection is lost again, which the stream notices itself
    }
  }

  #onEvent(message: Message): void {
    const event = JSON.parse(message.data) as { type?: string; data?: { tunnel?: string } }
    if (message.event.startsWith('warren.tunnel.') && event.data?.tunnel) this.#dirty.add(event.data.tunnel)
    else if (message.event.startsWith('warren.peer.')) this.#peersDirty = true
    else this.policyChanges += 1
    clearTimeout(this.#gathering)
    this.#gathering = setTimeout(() => void this.#readChanged(), GATHER_MS)
  }

  /** Read what events have named. The server derives a tunnel's state from both ends, so it is asked, not computed here. */
  async #readChanged(): Promise<void> {
    const names = [...this.#dirty]
    this.#dirty.clear()
    const peers = this.#peersDirty
    this.#peersDirty = false
    if (names.length > MAX_SINGLE) return this.reload()
    const store = this.#store
    try {
      await Promise.all([
        ...(peers ? [this.#readPeers(), ...(names.length === 0 ? [this.reload()] : [])] : []),
        ...names.map((name) => this.#readOne(store, name)),
      ])
    } catch (error) {
      this.problem = problemFrom(error)
    }
    if (names.length > 0 && store === this.#store) this.#show()
  }

  async #readOne(store: RowStore, name: string): Promise<void> {
    const asked = store.ask()
    try {
      store.put(asked, [toRow(await content(api.GET('/api/tunnels/{name}', { params: { path: { name } } })))])
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error
      store.remove(asked, name)
    }
  }

  #show(): void {
    this.tunnels = this.#store.rows()
  }
}

export const fleet = new Fleet()
