/** The bar of a tunnel's past: for each bucket of time the worst state in it, and how much of it is known. */
import type { Schemas } from '../api/client'
import { worst, type TunnelState } from './states'

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
