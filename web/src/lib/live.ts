/**
 * The live connection to the API server: `/api/live`, a snapshot of the fleet and then every change of it.
 *
 * It is a WebSocket; where none opens (a proxy that does not pass it on, a refused sign-in), the same messages come as server-sent
 * events, read by `fetch`, as an EventSource hides the keepalive comments and the status of a refusal. Either continues after the last
 * cursor received. A connection that is silent for SILENCE_MS counts as lost, and 401 as signed out.
 */
import { observe, type Schemas } from './api/client'
import { SseParser } from './sse'

export type LiveMessage = Schemas['LiveMessage'] | { kind: 'alive' }
/** `lost`: no connection, or one whose snapshot is not complete yet: the states that are shown are not current. */
export type LiveState = 'connecting' | 'live' | 'lost'

export const SILENCE_MS = 25_000 // the server sends something each 10 s
const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000]
const UNAUTHORIZED = 4_401 // close code of a WebSocket whose token was removed

export interface LiveHandlers {
  /** A message of the stream, in order. The first of a stream that does not resume is a snapshot: what came before is void. */
  message(message: LiveMessage): void
  /** The server has sent something, if only a keepalive. */
  received(): void
  /** `reason`: what the server said when it ended the stream; empty: nothing. */
  state(state: LiveState, reason: string): void
}

/** How a connection ended. `unused`: before its first message, so that another transport may do better. */
type End = 'ended' | 'unused' | 'signed-out'
type Transport = (path: string, cursor: string, receive: (message: LiveMessage) => void, signal: AbortSignal) => Promise<End>

export class LiveStream {
  #abort: AbortController | null = null
  #cursor = ''
  #attempt = 0
  #transport = 0
  #reason = ''
  #stopped = true
  readonly #transports: readonly Transport[]

  constructor(
    private readonly path: string,
    private readonly handlers: LiveHandlers,
    transports: readonly Transport[] = [overWebSocket(), overServerSentEvents()],
  ) {
    this.#transports = transports
  }

  start(): void {
    if (!this.#stopped) return
    this.#stopped = false
    void this.#run()
  }

  stop(): void {
    this.#stopped = true
    this.#abort?.abort()
  }

  async #run(): Promise<void> {
    this.handlers.state('connecting', '')
    while (!this.#stopped) {
      const end = await this.#follow().catch((): End => 'unused')
      if (this.#stopped || end === 'signed-out') return
      if (end === 'ended') this.handlers.state('lost', this.#reason)
      else {
        this.#transport = (this.#transport + 1) % this.#transports.length
        if (this.#transport !== 0) continue // the other transport is tried at once
        this.handlers.state('lost', this.#reason)
      }
      const pause = RETRY_MS[Math.min(this.#attempt, RETRY_MS.length - 1)] ?? 0
      this.#attempt += 1
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)))
    }
  }

  /** One connection until its end. */
  async #follow(): Promise<End> {
    const abort = new AbortController()
    this.#abort = abort
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS)
    const receive = (message: LiveMessage): void => {
      clearTimeout(watchdog)
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS)
      if (abort.signal.aborted) return
      this.handlers.received()
      this.#receive(message)
    }
    try {
      const transport = this.#transports[this.#transport]
      return transport === undefined ? 'unused' : await transport(this.path, this.#cursor, receive, abort.signal)
    } finally {
      clearTimeout(watchdog)
    }
  }

  #receive(message: LiveMessage): void {
    if (message.kind === 'alive') return
    if (message.kind === 'dropped') {
      this.#reason = message.reason ?? ''
      if (this.#reason.startsWith('reset')) this.#cursor = '' // the cursor is of a stream that is gone
      return
    }
    if (message.kind === 'snapshot') this.#cursor = ''
    if (message.cursor) this.#cursor = message.cursor
    this.handlers.message(message)
    if (message.kind !== 'ready') return
    this.#attempt = 0
    this.#reason = ''
    this.handlers.state('live', '')
  }
}

/** Messages as text frames. */
export function overWebSocket(create: (url: string) => WebSocket = (url) => new WebSocket(url)): Transport {
  return (path, cursor, receive, signal) =>
    new Promise((resolve) => {
      const socket = create(withCursor(new URL(path, location.href.replace(/^http/, 'ws')), cursor).href)
      let used = false
      const end = (how: End): void => {
        signal.removeEventListener('abort', abort)
        resolve(how)
      }
      const abort = (): void => {
        socket.close()
        end(used ? 'ended' : 'unused') // a peer that is silent does not answer the close frame either
      }
      signal.addEventListener('abort', abort)
      socket.onmessage = (event) => {
        used = true
        receive(JSON.parse(String(event.data)) as LiveMessage)
      }
      // After 4401 the other transport finds out, by its status, that nobody is signed in.
      socket.onclose = (event) => end(used && event.code !== UNAUTHORIZED ? 'ended' : 'unused')
    })
}

/** The same messages as server-sent events. */
export function overServerSentEvents(request: typeof fetch = (...args) => fetch(...args)): Transport {
  return async (path, cursor, receive, signal) => {
    const headers: Record<string, string> = cursor === '' ? {} : { 'last-event-id': cursor }
    const response = await request(path, { headers, signal })
    observe(response)
    if (response.status === 401) return 'signed-out'
    if (!response.ok || response.body === null) return 'unused'
    const parser = new SseParser()
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    try {
      for (;;) {
        const { value, done } = await reader.read()
        if (done) return 'ended'
        receive({ kind: 'alive' }) // comments, too, show that the connection lives
        for (const message of parser.push(value)) receive(JSON.parse(message.data) as LiveMessage)
      }
    } catch {
      return 'ended'
    }
  }
}

function withCursor(url: URL, cursor: string): URL {
  if (cursor !== '') url.searchParams.set('cursor', cursor)
  return url
}
