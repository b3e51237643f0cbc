/**
 * The rows of all tunnels while replies arrive in any order.
 *
 * Each question gets a number when it is asked. A reply changes a row only if no reply to a later question has: a slow listing never
 * puts back what an event's own question has found meanwhile.
 */
import type { TunnelRow } from './rows'

interface Held {
  row: TunnelRow
  asked: number
}

export class RowStore {
  #held = new Map<string, Held>()
  #removed = new Map<string, number>()
  #asked = 0

  /** The number of a question that is asked now. */
  ask(): number {
    this.#asked += 1
    return this.#asked
  }

  /** Put in the rows of a reply. Returns whether anything changed. */
  put(asked: number, rows: Iterable<TunnelRow>): boolean {
    let changed = false
    for (const row of rows) {
      const before = Math.max(this.#held.get(row.name)?.asked ?? 0, this.#removed.get(row.name) ?? 0)
      if (before > asked) continue
      this.#held.set(row.name, { row, asked })
      this.#removed.delete(row.name)
      changed = true
    }
    return changed
  }

  /** A reply said that there is no such tunnel. */
  remove(asked: number, name: string): boolean {
    const held = this.#held.get(name)
    if ((held?.asked ?? 0) > asked) return false
    this.#removed.set(name, asked)
    return this.#held.delete(name)
  }

  /** A complete listing was read: what it did not name, and no later reply either, is gone. */
  finish(asked: number): boolean {
    let changed = false
    for (const [name, held] of this.#held) if (held.asked < asked) changed = this.#held.delete(name) || changed
    for (const [name, at] of this.#removed) if (at < asked) this.#removed.delete(name)
    return changed
  }

  get(name: string): TunnelRow | undefined {
    return this.#held.get(name)?.row
  }

  /** All rows, in order of names. */
  rows(): TunnelRow[] {
    return [...this.#held.values()].map((held) => held.row).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  }
}
