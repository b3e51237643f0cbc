/** The fleet as the page knows it: the states of tunnels and peers by the live stream, what that does not have by listings. */
import { tick } from 'svelte'

import { api, ApiError, content, everyPage, problemFrom, type Problem, type Schemas } from '../api/client'
import { serverClock } from '../clock.svelte'
import { LiveStream, type LiveMessage, type LiveState } from '../live'
import { session } from '../session.svelte'
import { lostSince, NO_CONNECTION, type Connection } from './freshness'
import { RowStore } from './merge'
import { DrawingPace } from './pace'
import { toRow, type TunnelRow } from './rows'

export type Peer = Schemas['PeerSummary']

export const MAX_ROWS = 100_000
const PAGE = 500
const GATHER_MS = 100 // changes of one event come close together
const MAX_SINGLE = 40 // more changed tunnels or peers than these are read by the listing
const RELOAD_MS = 15_000 // counters and the age of reports have no event
const RELOAD_LARGE_MS = 120_000
const LARGE = 2_000 // tunnels, whose listing takes the server a second
const PAGE_PAUSE_MS = 500 // between the pages of a large listing: in one go it would hold up the changes of everybody
const LIVE = '/api/live'
/** Without these no change of a tunnel reaches the live stream, or none of an agent's presence. */
const SOURCES = ['nats', 'metrics']
const PRESENCE_SOURCES = ['nats', 'registry']
const RECEIVED_STEP_MS = 5_000 // what depends on it is computed again with each change of it

class Fleet {
  tunnels = $state.raw<readonly TunnelRow[]>([])
  peers = $state.raw<ReadonlyMap<string, Peer>>(new Map())
  /** The states of all tunnels are known; `peersLoaded`: and everything of the peers. */
  loaded = $state(false)
  peersLoaded = $state(false)
  /** There are more tunnels than the page reads. */
  truncated = $state(false)
  problem = $state.raw<Problem | null>(null)
  connection = $state.raw<Connection>(NO_CONNECTION)
  /** What the server said when it ended the stream; empty: nothing. */
  ended = $state('')
  /** Services that are not ready, by the server. */
  notReady = $state.raw<readonly string[]>([])
  /** The server has another version of this page. */
  outdated = $state(false)
  /** Grows with each change of policies: views that show them read again. */
  policyChanges = $state(0)

  #store = new RowStore()
  /** The question that the snapshot under way answers. */
  #snapshot: number | null = null
  #dirty = new Set<string>()
  #dirtyPeers = new Set<string>()
  #gathering: ReturnType<typeof setTimeout> | undefined
  #reloading: ReturnType<typeof setTimeout> | undefined
  #showing: ReturnType<typeof setTimeout> | undefined
  #pace = new DrawingPace()
  #live: LiveStream | null = null
  #page: string | null = null

  /** Begin to follow the fleet; again after `stop`. */
  start(): void {
    if (this.#live !== null) return
    this.#live = new LiveStream(LIVE, {
      message: (message) => this.#onMessage(message),
      received: () => this.#onReceived(),
      state: (state, reason) => this.#onState(state, reason),
    })
    this.#live.start()
  }

  /** Stop, and forget everything: another user may see less. */
  stop(): void {
    this.#live?.stop()
    this.#live = null
    for (const timer of [this.#gathering, this.#reloading, this.#showing]) clearTimeout(timer)
    this.#showing = undefined
    this.#store = new RowStore()
    this.#snapshot = null
    this.#dirty.clear()
    this.#dirtyPeers.clear()
    this.tunnels = []
    this.peers = new Map()
    this.loaded = this.peersLoaded = false
    this.connection = NO_CONNECTION
  }

  tagsOf(peer: string): readonly string[] {
    return this.peers.get(peer)?.tags ?? []
  }

  /** Whether a peer is only known as the far end of a tunnel: its record is outside of the scope of who has signed in. */
  isFar(peer: string): boolean {
    return session.scope !== null && !this.peers.has(peer)
  }

  /** Read everything again. */
  async reload(): Promise<void> {
    const store = this.#store
    const asked = store.ask()
    try {
      const [{ more }] = await Promise.all([this.#readTunnels(store, asked), this.readPeers()])
      if (!more) store.finish(asked)
      if (store !== this.#store) return
      this.truncated = more
      this.problem = null
      this.#show()
    } catch (error) {
      this.problem = problemFrom(error)
    }
    this.#scheduleReload()
  }

  async #readTunnels(store: RowStore, asked: number): Promise<{ more: boolean }> {
    return everyPage(
      async (after) => {
        if (after !== '' && this.tunnels.length > LARGE) await new Promise((resolve) => setTimeout(resolve, PAGE_PAUSE_MS))
        if (store !== this.#store) return { tunnels: [], next_after: null } // stopped meanwhile
        const page = await content(api.GET('/api/tunnels', { params: { query: { after, limit: PAGE } } }))
        store.put(asked, page.tunnels.map(toRow))
        return page
      },
      (page) => page.tunnels.map((tunnel) => tunnel.name),
      MAX_ROWS,
      () => this.#showSoon(),
    )
  }

  /** Read the listing of peers again. */
  async readPeers(): Promise<void> {
    const { found } = await everyPage(
      (after) => content(api.GET('/api/peers', { params: { query: { after, limit: PAGE } } })),
      (page) => page.peers,
      MAX_ROWS,
    )
    this.peers = new Map(found.map((peer) => [peer.peer, peer]))
    this.peersLoaded = true
  }

  #scheduleReload(): void {
    clearTimeout(this.#reloading)
    if (this.#live === null) return
    const pause = this.tunnels.length > LARGE ? RELOAD_LARGE_MS : RELOAD_MS
    this.#reloading = setTimeout(() => void this.reload(), pause)
  }

  #onState(state: LiveState, reason: string): void {
    const before = this.connection
    // A connection that was silent until its timer ended it has been lost since the last message.
    const since = lostSince(before, serverClock.now) ?? (state === 'lost' ? serverClock.now : null)
    const receivedAt = state === 'live' ? serverClock.now : before.receivedAt
    this.connection = { ...before, state, receivedAt, lostAt: state === 'live' ? null : since }
    this.ended = reason
    if (state !== 'live') this.#snapshot = null
  }

  #onReceived(): void {
    if (serverClock.now - (this.connection.receivedAt ?? 0) < RECEIVED_STEP_MS) return
    this.connection = { ...this.connection, receivedAt: serverClock.now }
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

  #onMessage(message: LiveMessage): void {
    if (message.kind === 'alive') return
    if (message.kind === 'snapshot') this.#snapshot ??= this.#store.ask()
    if (message.health) this.#onHealth(message.health)
    this.#takeTunnels(message)
    this.#takePeers(message)
    if (message.kind === 'change' && (message.policies || message.policies_gone)) this.policyChanges += 1
    if (message.kind === 'ready') this.#onReady()
    else if (message.kind === 'change') this.#gather()
  }

  #takeTunnels(message: Schemas['LiveMessage']): void {
    this.#store.live(message.tunnels ?? [])
    for (const name of message.tunnels_gone ?? []) this.#store.remove(this.#store.ask(), name)
    if (!message.tunnels && !message.tunnels_gone) return
    if (message.kind === 'change') for (const row of message.tunnels ?? []) this.#dirty.add(row.name)
    this.#showSoon()
  }

  #takePeers(message: Schemas['LiveMessage']): void {
    if (!message.peers && !message.peers_gone) return
    const peers = new Map(this.peers)
    for (const { peer, presence, tags } of message.peers ?? []) {
      const held = peers.get(peer)
      if (held !== undefined) peers.set(peer, { ...held, presence, tags: tags ?? [] })
      if (message.kind === 'change') this.#dirtyPeers.add(peer)
    }
    for (const peer of message.peers_gone ?? []) this.#dirtyPeers.add(peer)
    this.peers = peers
  }

  /** The snapshot is complete, or the stream goes on where it was. */
  #onReady(): void {
    if (this.#snapshot !== null) {
      this.#store.finish(this.#snapshot)
      this.#snapshot = null
      if (this.loaded) this.policyChanges += 1 // those since the last connection are not known one by one
    }
    this.loaded = true
    this.#show()
    void this.#checkPage()
    void this.reload()
  }

  #onHealth(health: Schemas['Health']): void {
    const failing = Object.entries(health.dependencies).flatMap(([name, ready]) => (ready ? [] : [name]))
    this.notReady = failing.filter((name) => !name.includes('/'))
    const since = (sources: readonly string[], before: number | null): number | null =>
      sources.some((name) => failing.includes(name)) ? (before ?? serverClock.now) : null
    const { blindAt, presenceBlindAt } = this.connection
    this.connection = { ...this.connection, blindAt: since(SOURCES, blindAt), presenceBlindAt: since(PRESENCE_SOURCES, presenceBlindAt) }
  }

  #gather(): void {
    clearTimeout(this.#gathering)
    this.#gathering = setTimeout(() => void this.#readChanged(), GATHER_MS)
  }

  /** Read the details of what has changed; those of many, or of a large fleet, come with the next listing. */
  async #readChanged(): Promise<void> {
    const [names, peers] = [[...this.#dirty], [...this.#dirtyPeers]]
    this.#dirty.clear()
    this.#dirtyPeers.clear()
    const store = this.#store
    const isLarge = this.tunnels.length > LARGE
    const many = Math.max(names.length, peers.length) > MAX_SINGLE
    if (many && !isLarge) return this.reload()
    try {
      await Promise.all([
        ...(peers.length > MAX_SINGLE ? [this.readPeers()] : peers.map((peer) => this.#readPeer(peer))),
        ...(isLarge ? [] : names.map((name) => this.#readOne(store, name))),
      ])
    } catch (error) {
      this.problem = problemFrom(error)
    }
    if (store === this.#store) this.#show()
  }

  async #readPeer(name: string): Promise<void> {
    try {
      const peer = await content(api.GET('/api/peers/{peer_id}', { params: { path: { peer_id: name } } }))
      this.peers = new Map(this.peers).set(name, peer)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error
      const peers = new Map(this.peers)
      peers.delete(name)
      this.peers = peers
    }
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

  /** Draw the fleet at once, or, where it has just been drawn, a little later with all changes until then. */
  #showSoon(): void {
    if (this.#showing !== undefined) return
    const due = this.#pace.wait(performance.now())
    if (due <= 0) this.#show()
    else this.#showing = setTimeout(() => this.#show(), due)
  }

  #show(): void {
    clearTimeout(this.#showing)
    this.#showing = undefined
    const began = performance.now()
    const rows = this.#store.rows()
    if (rows === this.tunnels) return
    this.tunnels = rows
    void tick().then(() => this.#pace.drawn(began, performance.now()))
  }
}

export const fleet = new Fleet()
