/** Sorting of a table by a column, as the address bar states it: `name` ascending, `-name` descending. */

export type SortKey = string | number | null

export interface Sorting {
  column: string
  descending: boolean
}

export function parseSorting(text: string, columns: readonly string[], initial: Sorting): Sorting {
  const column = text.replace(/^-/, '')
  return columns.includes(column) ? { column, descending: text.startsWith('-') } : initial
}

export function sortingText(sorting: Sorting): string {
  return `${sorting.descending ? '-' : ''}${sorting.column}`
}

/** The rows by a key; rows without one come last in either direction. Rows with equal keys keep their order. */
export function sorted<Row>(rows: readonly Row[], key: (row: Row) => SortKey, descending: boolean): Row[] {
  return Array.from(sortedPlaces(rows, key, descending), (place) => rows[place] as Row)
}

type Order = (a: SortKey, b: SortKey) => number

function orderOf(descending: boolean): Order {
  const sign = descending ? -1 : 1
  return (a, b) => {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1
    return sign * (a < b ? -1 : a > b ? 1 : 0)
  }
}

/** Where the rows are, in the order of their keys. */
function sortedPlaces<Row>(rows: readonly Row[], key: (row: Row) => SortKey, descending: boolean): Uint32Array {
  const keys = rows.map(key)
  const order = orderOf(descending)
  return Uint32Array.from(rows.keys()).sort((a, b) => order(keys[a] as SortKey, keys[b] as SortKey) || a - b)
}

/** Rows in an order of their own: they are looked up, not copied. */
export interface SortedView<Row> {
  readonly length: number
  at(index: number): Row | undefined
}

const FEW = 0.1 // of the rows: more changed ones are sorted with all others

/**
 * Keeps rows sorted while some of them are replaced, come or go: 100,000 take 0.2 s to sort, and few milliseconds to bring up to date.
 *
 * A row that has changed is another object with the same id. The order is always that of `sorted`. Rows that come in order of their ids are
 * compared in one pass; in any other order, more of them count as changed.
 */
export class SortedRows<Row> {
  #rows: readonly Row[] = []
  #places: Uint32Array = new Uint32Array()
  #key: ((row: Row) => SortKey) | null = null
  #descending = false
  #view: SortedView<Row> = { length: 0, at: () => undefined }

  constructor(private readonly id: (row: Row) => string) {}

  of(rows: readonly Row[], key: (row: Row) => SortKey, descending: boolean): SortedView<Row> {
    const same = key === this.#key && descending === this.#descending
    if (same && rows === this.#rows) return this.#view
    const places = (same ? this.#updated(rows, key, orderOf(descending)) : null) ?? sortedPlaces(rows, key, descending)
    this.#rows = rows
    this.#places = places
    this.#key = key
    this.#descending = descending
    this.#view = { length: rows.length, at: (index) => rows[places[index] as number] }
    return this.#view
  }

  /** The places of the new rows by those of the ones before; null: too many have changed. */
  #updated(rows: readonly Row[], key: (row: Row) => SortKey, order: Order): Uint32Array | null {
    const change = this.#changes(rows, key, order)
    if (change === null) return null
    const kept = new Uint32Array(this.#rows.length)
    let count = 0
    for (const place of this.#places) {
      const now = change.places[place] as number
      if (now >= 0) {
        kept[count] = now
        count += 1
      }
    }
    return merged(rows, kept.subarray(0, count), change.added, key, order)
  }

  /** Where each row is now (-1: gone, or its key has changed), and which rows need a new position. */
  #changes(rows: readonly Row[], key: (row: Row) => SortKey, order: Order): { places: Int32Array; added: number[] } | null {
    const before = this.#rows
    const limit = rows.length * FEW
    const places = new Int32Array(before.length).fill(-1)
    const added: number[] = []
    let from = 0
    let to = 0
    while (from < before.length && to < rows.length) {
      const old = before[from] as Row
      const now = rows[to] as Row
      if (old !== now && this.id(old) < this.id(now)) {
        from += 1
        continue
      }
      const isSame = old === now || this.id(old) === this.id(now)
      if (isSame && (old === now || order(key(old), key(now)) === 0)) places[from] = to
      else if (added.push(to) > limit) return null
      if (isSame) from += 1
      to += 1
    }
    for (; to < rows.length; to += 1) if (added.push(to) > limit) return null
    return { places, added }
  }
}

/** Put a few places into sorted ones. */
function merged<Row>(rows: readonly Row[], kept: Uint32Array, few: number[], key: (row: Row) => SortKey, order: Order): Uint32Array {
  const compare = (a: number, b: number): number => order(key(rows[a] as Row), key(rows[b] as Row)) || a - b
  const found = new Uint32Array(rows.length)
  let taken = 0
  for (const [index, place] of few.sort(compare).entries()) {
    let low = taken
    let high = kept.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(kept[middle] as number, place) < 0) low = middle + 1
      else high = middle
    }
    found.set(kept.subarray(taken, low), taken + index)
    found[low + index] = place
    taken = low
  }
  found.set(kept.subarray(taken), taken + few.length)
  return found
}
