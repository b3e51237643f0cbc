/** The traffic of an end in the last hour, as a chart and a table need it. */
import type { Schemas } from '../api/client'

export type Minutes = readonly (number | null)[]

/** One minute of one end. Null: the end sent no report in it, which is not zero. */
export interface Minute {
  /** When it begins; milliseconds since the epoch. */
  at: number
  bytesIn: number | null
  bytesOut: number | null
  /** It is not over: more may be counted. */
  open: boolean
}

/** The minutes of an end, the oldest first; the last one of the server is not over. */
export function minutesOf(counters: Schemas['TunnelCounters'], peer: string): Minute[] {
  const end = (counters.ends as Record<string, Schemas['EndCounters']>)[peer]
  const start = Date.parse(counters.start)
  const last = (end?.bytes_in.length ?? 0) - 1
  return (end?.bytes_in ?? []).map((bytesIn, index) => ({
    at: start + index * counters.step_seconds * 1_000, bytesIn, bytesOut: end?.bytes_out[index] ?? null, open: index === last,
  }))
}

/** The sum of what is known; null: nothing is. */
export function sum(values: Minutes): number | null {
  const known = values.filter((it) => it !== null)
  return known.length === 0 ? null : known.reduce((all, it) => all + it, 0)
}

/** The largest value of several series, at least 1, so that it can be a scale. */
export function largest(...series: Minutes[]): number {
  return Math.max(1, ...series.flatMap((values) => values.map((it) => it ?? 0)))
}

/** What a chart draws: x in seconds since the epoch, and bytes a minute. */
export interface Levels {
  x: number[]
  bytesIn: (number | null)[]
  bytesOut: (number | null)[]
}

/** Two points for each minute, at its start and its end, so that it is a level line. An unknown minute is two nulls: a gap, never a line. */
export function levels(minutes: readonly Minute[], stepSeconds: number): Levels {
  const found: Levels = { x: [], bytesIn: [], bytesOut: [] }
  for (const { at, bytesIn, bytesOut } of minutes) {
    const begin = at / 1_000
    found.x.push(begin, begin + stepSeconds - 0.001) // x must increase
    found.bytesIn.push(bytesIn, bytesIn)
    found.bytesOut.push(bytesOut, bytesOut)
  }
  return found
}

/** The times of which nothing is known within `from` to `to` (seconds since the epoch): before, between and after the minutes with a report. */
export function gaps(minutes: readonly Minute[], stepSeconds: number, from: number, to: number): [number, number][] {
  const found: [number, number][] = []
  let known = from
  for (const { at, bytesIn } of minutes) {
    if (bytesIn === null) continue
    const begin = at / 1_000
    if (begin > known) found.push([known, Math.min(begin, to)])
    known = Math.max(known, begin + stepSeconds)
  }
  if (to > known) found.push([known, to])
  return found.filter(([begin, end]) => end > begin)
}

/** The minute at an instant (milliseconds since the epoch); null: there is none. */
export function minuteAt(minutes: readonly Minute[], stepSeconds: number, at: number): number | null {
  const found = minutes.findIndex((it) => at >= it.at && at < it.at + stepSeconds * 1_000)
  return found < 0 ? null : found
}
