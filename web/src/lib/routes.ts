/** The paths of the page. `warren_api.page.VIEWS` has the same first segments. */

export const VIEWS = ['', 'sign-in', 'map', 'tunnels', 'peers', 'policies', 'tokens', 'audit'] as const
export type View = (typeof VIEWS)[number]

export interface Place {
  view: View
  /** What follows the first segment: the name of a tunnel, the id of a peer or policy; empty: none. */
  name: string
}

/** The place of a path; null: the page has no such path. */
export function placeOf(path: string): Place | null {
  const [first = '', ...rest] = path.replace(/^\//, '').split('/')
  const view = VIEWS.find((it) => it === first)
  if (view === undefined || rest.length > 1) return null
  try {
    return { view, name: decodeURIComponent(rest[0] ?? '') }
  } catch {
    return null
  }
}

/** The path of a place. */
export function pathOf(view: View, name = ''): string {
  return name === '' ? `/${view}` : `/${view}/${encodeURIComponent(name)}`
}
