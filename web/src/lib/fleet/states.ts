/** The states of a tunnel: their order, worst first, and what each means. */
import type { Schemas } from '../api/client'

export type TunnelState = Schemas['TunnelState']

export const STATES: readonly TunnelState[] = ['error', 'down', 'connecting', 'degraded', 'unknown', 'standby', 'up']

export const MEANING: Record<TunnelState, string> = {
  error: 'The last attempt failed, or none can be made.',
  down: 'No CHILD_SA is installed.',
  connecting: 'A negotiation is under way.',
  degraded: 'CHILD_SAs are installed, and something does not work.',
  unknown: 'No end has a current report.',
  standby: 'Another tunnel carries the traffic, on purpose.',
  up: 'All CHILD_SAs are installed, and nothing contradicts that packets pass.',
}

/** Position in the order from worst to best. */
export function severity(state: TunnelState): number {
  return STATES.indexOf(state)
}

/** The worst of several states; null: there are none. */
export function worst(states: Iterable<TunnelState>): TunnelState | null {
  let found: TunnelState | null = null
  for (const state of states) if (found === null || severity(state) < severity(found)) found = state
  return found
}

/** How many tunnels are in each state. */
export function countStates(states: Iterable<TunnelState>): Record<TunnelState, number> {
  const counts = Object.fromEntries(STATES.map((state) => [state, 0])) as Record<TunnelState, number>
  for (const state of states) counts[state] += 1
  return counts
}
