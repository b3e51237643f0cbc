/** What a change does to tunnels, in words. */
import type { ApplyReply, PolicyPlan } from './revisions'

export type Effect = PolicyPlan['tunnels'][number]['effect']

export interface TouchedTunnel {
  name: string
  effect: Effect
}

export interface Outcome {
  effects: NonNullable<ApplyReply['effects']>
  /** The touched tunnels, the hardest effect first. */
  tunnels: TouchedTunnel[]
}

export const EFFECT_WORDS: Record<Effect, string> = {
  new: 'is created',
  child: 'gets a new CHILD_SA inside its IKE_SA: no interruption expected',
  ike: 'gets a new IKE_SA next to the old one, which is closed when the new one is up',
  removed: 'ends',
}
const ORDER: readonly Effect[] = ['removed', 'ike', 'child', 'new']

/** The outcome of a plan. */
export function outcomeOfPlan(plan: PolicyPlan): Outcome {
  return { effects: plan.effects, tunnels: inOrder(plan.tunnels) }
}

/** The outcome of a dry run; null: it names none. */
export function outcomeOfReply(reply: ApplyReply): Outcome | null {
  if (!reply.effects) return null
  const touched = Object.entries((reply.effects.touched ?? {}) as Record<string, Effect>)
  return { effects: reply.effects, tunnels: inOrder(touched.map(([name, effect]) => ({ name, effect }))) }
}

function inOrder(tunnels: readonly TouchedTunnel[]): TouchedTunnel[] {
  return [...tunnels].sort((a, b) => ORDER.indexOf(a.effect) - ORDER.indexOf(b.effect) || (a.name < b.name ? -1 : 1))
}
