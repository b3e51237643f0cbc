/**
 * The live connection to the API server: one stream of server-sent events that resumes after the last one received.
 *
 * It reads the stream by `fetch`, as an EventSource hides the keepalive comments and the status of a refusal: here a connection that
 * is silent for SILENCE_MS counts as lost, and 401 as signed out. Another endpoint of the same form is another `path`.
 */
import { observe } from './api/client'
import { SseParser, type Message } from './sse'

export type LiveState = 'connecting' | 'live' | 'lost'

export const SILENCE_MS = 25_000 // the server sends a comment each 10 s
const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000]

export interface LiveHandlers {
  /** One event of the fleet. */
  event(message: Message): void
  /** Connected; `resumed`: all events since the last connection follow. */
  connected(resumed: boolean): void
  state(state: LiveState): void
}

export class LiveStream {
  #abort: AbortController | null = null
  #lastId = ''
  #attempt = 0
  #connectedBefore = false
  #stopped = true

  constructor(
    private readonly path: string,
    private readonly handlers: LiveHandlers,
    private readonly request: typeof fetch = (...args) => fetch(...args),
  ) {}

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
    this.handlers.state('connecting')
    while (!this.#stopped) {
      const refused = await this.#follow().catch(() => false)
      if (this.#stopped || refused) return
      this.handlers.state('lost')
      const pause = RETRY_MS[Math.min(this.#attempt, RETRY_MS.length - 1)] ?? 0
      this.#attempt += 1
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)))
    }
  }

  /** One connection until its end; true: nobody is signed in, so that another attempt has no use. */
  async #follow(): Promise<boolean> {
    const abort = new AbortController()
    this.#abort = abort
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS)
    try {
      const headers: Record<string, string> = this.#lastId === '' ? {} : { 'last-event-id': this.#lastId }
      const response = await this.request(this.path, { headers, signal: abort.signal })
      observe(response)
      if (response.status === 401) return true
      if (!response.ok || response.body === null) return false
      this.#attempt = 0
      this.handlers.state('live')
      this.handlers.connected(this.#lastId !== '' && this.#connectedBefore)
      this.#connectedBefore = true
      const parser = new SseParser()
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      for (;;) {
        const { value, done } = await reader.read()
        if (done) return false
        clearTimeout(watchdog)
        watchdog = setTimeout(() => abort.abort(), SILENCE_MS)
        for (const message of parser.push(value)) {
          if (message.id !== '') this.#lastId = message.id
          this.handlers.event(message)
        }
      }
    } finally {
      clearTimeout(watchdog)
    }
  }
}
