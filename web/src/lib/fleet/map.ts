/**
 * Where each gateway is drawn: hubs in the middle, the others around them, all by name, so that a gateway stays where an operator has
 * learnt it. Past MAX_NODES gateways are grouped by their first tag, with counts, or where that makes more than MAX_NODES groups, by the tag
 * that most gateways share; what is not drawn is counted.
 */
import { worst, type TunnelState } from './states'

export const MAX_NODES = 200
export const NO_TAG = '(no tag)' // the group of gateways without one; not a valid tag
export const SIZE = 1_000 // the side of the drawing, in its own units
const CENTRE = SIZE / 2
const OUTER = 440
const RING_CAPACITY = 60 // more on one ring overlap

export interface MapPeer {
  name: string
  tags: readonly string[]
}

export interface MapTunnel {
  name: string
  peers: readonly string[]
  state: TunnelState
  /** How old the state is: the oldest report that it is derived from; milliseconds since the epoch. */
  reportedAt: number | null
}

/** A state with the oldest report of those that it is derived from. */
interface Seen {
  state: TunnelState
  reportedAt: number | null
}

export interface MapNode {
  id: string
  label: string
  x: number
  y: number
  hub: boolean
  /** Gateways in it: 1, or those of a group. */
  size: number
  /** The worst state of its tunnels; null: it has none. */
  state: TunnelState | null
  reportedAt: number | null
}

export interface MapEdge {
  id: string
  from: MapNode
  to: MapNode
  state: TunnelState
  reportedAt: number | null
  tunnels: number
}

export interface FleetMap {
  nodes: MapNode[]
  edges: MapEdge[]
  grouped: boolean
  /** Tunnels that have no line: inside a group, or to a gateway outside of the fleet. */
  hidden: number
}

/** The map of these gateways and tunnels; the same ones give the same map. */
export function layOut(peers: readonly MapPeer[], tunnels: readonly MapTunnel[]): FleetMap {
  const grouped = peers.length > MAX_NODES
  const groupOf = grouped ? groups(peers) : new Map(peers.map((peer) => [peer.name, peer.name]))
  const sizes = new Map<string, number>()
  for (const group of groupOf.values()) sizes.set(group, (sizes.get(group) ?? 0) + 1)
  const links = collect(tunnels, groupOf)
  const nodes = place([...sizes.keys()].sort(), degrees(links.between), links.states, sizes, grouped)
  const edges: MapEdge[] = []
  for (const [id, link] of links.between) {
    const [from, to] = [nodes.get(link.from), nodes.get(link.to)]
    if (from !== undefined && to !== undefined) edges.push({ id, from, to, state: link.state, reportedAt: link.reportedAt, tunnels: link.tunnels })
  }
  return { nodes: [...nodes.values()], edges, grouped, hidden: links.hidden }
}

/** The group of each gateway. */
function groups(peers: readonly MapPeer[]): Map<string, string> {
  const byFirst = new Map(peers.map((peer) => [peer.name, [...peer.tags].sort()[0] ?? NO_TAG]))
  if (new Set(byFirst.values()).size <= MAX_NODES) return byFirst
  // Each site has a tag of its own: that would be the crowd again that groups are for.
  const sharedBy = new Map<string, number>()
  for (const tag of peers.flatMap((peer) => peer.tags)) sharedBy.set(tag, (sharedBy.get(tag) ?? 0) + 1)
  const order = (a: string, b: string): number => (sharedBy.get(b) ?? 0) - (sharedBy.get(a) ?? 0) || (a < b ? -1 : 1)
  return new Map(peers.map((peer) => [peer.name, [...peer.tags].sort(order)[0] ?? NO_TAG]))
}

interface Link extends Seen {
  from: string
  to: string
  tunnels: number
}

/** Of two, the worse state; of two equal ones, the older report. */
function worse(one: Seen, other: Seen): Seen {
  if (one.state !== other.state) return worst([one.state, other.state]) === one.state ? one : other
  return (one.reportedAt ?? 0) <= (other.reportedAt ?? 0) ? one : other
}

function collect(tunnels: readonly MapTunnel[], groupOf: ReadonlyMap<string, string>) {
  const between = new Map<string, Link>()
  const states = new Map<string, Seen>()
  let hidden = 0
  for (const tunnel of tunnels) {
    const groups = tunnel.peers.flatMap((peer) => groupOf.get(peer) ?? [])
    const seen: Seen = { state: tunnel.state, reportedAt: tunnel.reportedAt }
    for (const group of groups) states.set(group, worse(states.get(group) ?? seen, seen))
    const [from, to] = [...groups].sort()
    if (from === undefined || to === undefined || from === to) {
      hidden += 1
      continue
    }
    const id = `${from} ${to}`
    const held = between.get(id)
    if (held === undefined) between.set(id, { from, to, ...seen, tunnels: 1 })
    else {
      held.tunnels += 1
      const { state, reportedAt } = worse(held, seen)
      held.state = state
      held.reportedAt = reportedAt
    }
  }
  return { between, states, hidden }
}

function degrees(links: ReadonlyMap<string, Link>): Map<string, number> {
  const found = new Map<string, number>()
  for (const link of links.values()) for (const end of [link.from, link.to]) found.set(end, (found.get(end) ?? 0) + 1)
  return found
}

/** A hub has more neighbours than most, and at least half as many as the one that has most. In a mesh there is none. */
function hubsAmong(names: readonly string[], degree: ReadonlyMap<string, number>): string[] {
  const degrees = names.map((name) => degree.get(name) ?? 0).sort((a, b) => a - b)
  const median = degrees[Math.floor((degrees.length - 1) / 2)] ?? 0
  const most = degrees.at(-1) ?? 0
  return names.filter((name) => (degree.get(name) ?? 0) > Math.max(1, median) && (degree.get(name) ?? 0) * 2 >= most)
}

function place(
  names: readonly string[],
  degree: ReadonlyMap<string, number>,
  states: ReadonlyMap<string, Seen>,
  sizes: ReadonlyMap<string, number>,
  grouped: boolean,
): Map<string, MapNode> {
  const hubs = hubsAmong(names, degree)
  const others = names.filter((name) => !hubs.includes(name))
  const nodes = new Map<string, MapNode>()
  const add = (name: string, x: number, y: number, hub: boolean): void => {
    const size = sizes.get(name) ?? 1
    const label = grouped ? `${name} (${size})` : name
    nodes.set(name, { id: name, label, x: Math.round(x), y: Math.round(y), hub, size, ...(states.get(name) ?? { state: null, reportedAt: null }) })
  }
  onCircle(hubs, hubs.length === 1 ? 0 : Math.min(180, 50 + 10 * hubs.length), (name, x, y) => add(name, x, y, true))
  const rings = Math.max(1, Math.ceil(others.length / RING_CAPACITY))
  for (let ring = 0; ring < rings; ring += 1) {
    const members = others.filter((_, index) => index % rings === ring)
    onCircle(members, OUTER - ring * 65, (name, x, y) => add(name, x, y, false), (ring * Math.PI) / Math.max(1, members.length))
  }
  return nodes
}

function onCircle(names: readonly string[], radius: number, put: (name: string, x: number, y: number) => void, turn = 0): void {
  names.forEach((name, index) => {
    const angle = turn - Math.PI / 2 + (2 * Math.PI * index) / names.length
    put(name, CENTRE + radius * Math.cos(angle), CENTRE + radius * Math.sin(angle))
  })
}
