import { describe, expect, test } from 'vitest'

import { layOut, MAX_NODES, type MapPeer, type MapTunnel } from '../src/lib/fleet/map'

function fleet(spokes: number): { peers: MapPeer[]; tunnels: MapTunnel[] } {
  const names = Array.from({ length: spokes }, (_, index) => `spoke-${index}`)
  return {
    peers: [{ name: 'hub', tags: ['hub'] }, ...names.map((name) => ({ name, tags: ['branch'] }))],
    tunnels: names.map((name, index) => ({ name: `hub+${name}`, peers: ['hub', name], state: index === 3 ? 'down' : 'up', reportedAt: 1_000 - index })),
  }
}

describe('the map', () => {
  test('has the hub in the middle, and the same places for the same fleet in any order', () => {
    const { peers, tunnels } = fleet(20)
    const map = layOut(peers, tunnels)
    expect(map.nodes.find((node) => node.id === 'hub')).toMatchObject({ x: 500, y: 500, hub: true, state: 'down' })
    const again = layOut([...peers].reverse(), [...tunnels].reverse())
    expect(again.nodes.sort((a, b) => (a.id < b.id ? -1 : 1))).toEqual(map.nodes.sort((a, b) => (a.id < b.id ? -1 : 1)))
    expect([map.edges.length, map.hidden, map.grouped]).toEqual([20, 0, false])
  })

  test('knows the hub of two spokes, and no hub in a mesh', () => {
    const hubs = (peers: MapPeer[], tunnels: MapTunnel[]): string[] => layOut(peers, tunnels).nodes.filter((it) => it.hub).map((it) => it.id)
    expect(hubs(fleet(2).peers, fleet(2).tunnels)).toEqual(['hub'])
    const mesh = ['a', 'b', 'c', 'd'].map((name) => ({ name, tags: [] }))
    const every = mesh.flatMap((a) => mesh.filter((b) => a.name < b.name).map((b) => ({ name: `${a.name}+${b.name}`, peers: [a.name, b.name], state: 'up' as const, reportedAt: null })))
    expect(hubs(mesh, every)).toEqual([])
  })

  test('groups by tag past the limit, and counts what has no line', () => {
    const { peers, tunnels } = fleet(MAX_NODES + 50)
    tunnels.push({ name: 'spoke-1+spoke-2', peers: ['spoke-1', 'spoke-2'], state: 'up', reportedAt: null })
    const map = layOut(peers, tunnels)
    expect(map.grouped).toBe(true)
    expect(map.nodes.map((node) => node.label).sort()).toEqual([`branch (${MAX_NODES + 50})`, 'hub (1)'])
    expect(map.edges).toMatchObject([{ tunnels: MAX_NODES + 50, state: 'down' }])
    expect(map.hidden).toBe(1)
  })

  test('groups by the tag that most share where each gateway has one of its own', () => {
    const { peers, tunnels } = fleet(MAX_NODES + 50)
    const sites = peers.map((peer, index) => ({ ...peer, tags: [`a-site-${index}`, ...peer.tags] }))
    expect(layOut(sites, tunnels).nodes.map((node) => node.label).sort()).toEqual(['a-site-0 (1)', `branch (${MAX_NODES + 50})`])
  })

  test('says of the worst state how old it is', () => {
    const { peers, tunnels } = fleet(5)
    const map = layOut(peers, tunnels)
    expect(map.nodes.find((node) => node.id === 'hub')).toMatchObject({ state: 'down', reportedAt: 997 })
    tunnels.push({ name: 'hub+spoke-4', peers: ['hub', 'spoke-4'], state: 'down', reportedAt: 5 })
    expect(layOut(peers, tunnels).nodes.find((node) => node.id === 'hub')).toMatchObject({ state: 'down', reportedAt: 5 })
  })

  test('counts a tunnel to a gateway outside of the fleet', () => {
    expect(layOut([{ name: 'a', tags: [] }], [{ name: 'ext', peers: ['a'], state: 'up', reportedAt: null }]).hidden).toBe(1)
  })

  test('places every node inside the drawing', () => {
    for (const node of layOut(fleet(MAX_NODES - 1).peers, fleet(MAX_NODES - 1).tunnels).nodes) {
      expect(Math.min(node.x, node.y)).toBeGreaterThan(0)
      expect(Math.max(node.x, node.y)).toBeLessThan(1_000)
    }
  })
})
