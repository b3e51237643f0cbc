/** Who is signed in, with which role, and for which part of the fleet. */
import { api, content, whenSignedOut, type Schemas } from './api/client'

type SignedIn = Schemas['SignedIn']
type Role = Schemas['Role']
const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 }

class Session {
  /** undefined: not asked yet; null: nobody. */
  user = $state<SignedIn | null | undefined>(undefined)
  /** The session ended while the page was open. */
  ended = $state(false)
  readonly #ending = new Set<() => void>()

  constructor() {
    whenSignedOut(() => {
      // Several calls may get a 401.
      if (this.user) {
        this.ended = true
        for (const action of this.#ending) action()
      }
      this.user = null
    })
  }

  /** Do something when the session ends other than by a sign-out, while the view is still open. Returns what ends that. */
  whenEnding(action: () => void): () => void {
    this.#ending.add(action)
    return () => void this.#ending.delete(action)
  }

  /** Ask the API server; throws ApiError when it cannot say. */
  async load(): Promise<void> {
    try {
      this.user = await content(api.GET('/api/session'))
    } catch (error) {
      if (this.user === undefined) throw error
    }
  }

  /** Sign in with a token or the code of a link. Throws ApiError. */
  async signIn(by: { token: string } | { code: string }): Promise<void> {
    this.user = await content(api.POST('/api/session', { body: by }))
    this.ended = false
  }

  async signOut(): Promise<void> {
    await content(api.DELETE('/api/session'))
    this.user = null
    this.ended = false
  }

  /** Whether the signed-in user has at least this role: what is not allowed is not shown. */
  can(role: Role): boolean {
    return this.user !== null && this.user !== undefined && RANK[this.user.role] >= RANK[role]
  }

  /** The tags whose gateways the signed-in user sees; null: the whole fleet. */
  get scope(): readonly string[] | null {
    return this.user?.scope ?? null
  }

  /** The same for what only a user of the whole fleet may do: policies, tokens, tags. */
  canForAll(role: Role): boolean {
    return this.scope === null && this.can(role)
  }
}

export const session = new Session()
