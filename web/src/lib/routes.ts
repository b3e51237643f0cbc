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

/** Whether two places are one view of the same thing: what is in that view stays open. */
export function isSamePlace(one: Place | null, other: Place | null): boolean {
  return one !== null && one.view === other?.view && one.name === other.name
}

/** Where to go after a sign-in: the path that was asked for, if it is one of this page; never another site, nor the sign-in again. */
export function afterSignIn(asked: string, origin: string): string {
  if (!URL.canParse(asked, origin)) return '/'
  const { origin: other, pathname, search } = new URL(asked, origin)
  const place = other === origin ? placeOf(pathname) : null
  return place === null || place.view === 'sign-in' ? '/' : pathname + search
}

/** The path of a place. */
export function pathOf(view: View, name = ''): string {
  return name === '' ? `/${view}` : `/${view}/${encodeURIComponent(name)}`
}
