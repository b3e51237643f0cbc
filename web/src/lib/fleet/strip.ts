/** The bar of a tunnel's past: for each bucket of time the worst state in it, and how much of it is known. */
import type { Schemas } from '../api/client'
import { duration } from '../format'
import { worst, type TunnelState } from './states'

const KNOWN_WHOLE = 0.99 // of the time: less than the rest is not mentioned

export interface StripCell {
  /** null: nothing is known of this time. */
  state: TunnelState | null
  /** Milliseconds since the epoch. */
  from: number
  /** Seconds in each state, the worst first. */
  seconds: [TunnelState, number][]
}

export function stripCells(strip: Schemas['HistoryStrip']): StripCell[] {
  const start = Date.parse(strip.start)
  return strip.buckets.map((bucket, index) => {
    const seconds = (Object.entries(bucket as Record<string, number>) as [TunnelState, number][]).filter(([, length]) => length > 0)
    const state = worst(seconds.map(([it]) => it))
    return { state, from: start + index * strip.bucket_seconds * 1_000, seconds }
  })
}

/** How long the tunnel was up, of what is known: `up 99.31 %`, `up 67.35 % of the 46 s that are known`, `not known`. */
export function share(strip: Schemas['HistoryStrip']): string {
  if (strip.up_ratio === null || strip.up_ratio === undefined) return 'not known'
  const known = strip.buckets.flatMap((bucket) => Object.values(bucket)).reduce((sum, seconds) => sum + seconds, 0)
  const whole = strip.bucket_seconds * strip.buckets.length
  const up = `up ${(strip.up_ratio * 100).toFixed(2)} %`
  return known < KNOWN_WHOLE * whole ? `${up} of the ${duration(known)} that are known` : up
}
