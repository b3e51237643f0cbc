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
  const sign = descending ? -1 : 1
  return rows
    .map((row) => [key(row), row] as const)
    .sort(([a], [b]) => {
      if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1
      return sign * (a < b ? -1 : a > b ? 1 : 0)
    })
    .map(([, row]) => row)
}
