/** The time of the API server: ages are counted by it, as a browser's clock may be wrong. */

const TICK_MS = 1_000

class ServerClock {
  /** Milliseconds since the epoch, by the server's clock; it advances every second. */
  now = $state(Date.now())
  #offset = 0
  #known = false

  constructor() {
    if (typeof window !== 'undefined') setInterval(() => this.#tick(), TICK_MS)
  }

  /** Set the clock by a Date header, whose resolution is one second. */
  setBy(header: string | null): void {
    const said = header === null ? Number.NaN : Date.parse(header)
    if (Number.isNaN(said)) return
    const offset = said + TICK_MS / 2 - Date.now()
    if (this.#known && Math.abs(offset - this.#offset) < 2 * TICK_MS) return
    this.#offset = offset
    this.#known = true
    this.#tick()
  }

  #tick(): void {
    this.now = Date.now() + this.#offset
  }
}

export const serverClock = new ServerClock()
