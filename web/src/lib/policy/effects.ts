/** What a plan does to tunnels, in words. */
import type { PolicyPlan } from './revisions'

type PlannedTunnel = PolicyPlan['tunnels'][number]
export type Interruption = PlannedTunnel['interruption']

/** What becomes of a tunnel and of its traffic, as the drivers of its ends apply the change. */
export const INTERRUPTION_WORDS: Record<Interruption, string> = {
  none: 'nothing is sent to the daemons',
  new: 'is created',
  rekey: 'is rekeyed: a new CHILD_SA in the same IKE_SA; no interruption',
  're-established': 'is re-established: a new IKE_SA next to the old one, which is closed when the new one is up; a packet on the way may be lost',
  removed: 'ends, and with it its traffic',
}
const HARDEST_FIRST: readonly Interruption[] = ['removed', 're-established', 'rekey', 'new', 'none']

/** The touched tunnels of a plan, the hardest interruption first. */
export function hardestFirst(plan: PolicyPlan): PlannedTunnel[] {
  const rank = (it: PlannedTunnel): number => HARDEST_FIRST.indexOf(it.interruption)
  return [...plan.tunnels].sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1))
}

/** How many tunnels there are for each interruption: `1 removed, 2 rekeyed, 40 untouched`. */
export function countsOf(plan: PolicyPlan): string {
  const counts = plan.interruptions as Partial<Record<Interruption, number>>
  const words: Record<Interruption, string> = { removed: 'removed', 're-established': 're-established', rekey: 'rekeyed', new: 'new', none: 'not touched' }
  const found = HARDEST_FIRST.flatMap((it) => ((counts[it] ?? 0) > 0 ? [`${counts[it]} ${words[it]}`] : []))
  const untouched = plan.effects.untouched ?? 0
  return [...found, ...(untouched > 0 ? [`${untouched} untouched`] : [])].join(', ') || 'none'
}
