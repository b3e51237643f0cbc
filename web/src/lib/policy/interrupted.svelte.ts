/** The edit of a policy that the end of a session has interrupted. It is in the memory of this tab only. */
import type { StoredPolicy } from './revisions'

export interface Edit {
  text: string
  /** What the edit began with, and its version. */
  original: string
  base: number
  stored: StoredPolicy | null
}

interface Interrupted {
  user: string
  /** The name of the policy in the address bar. */
  policy: string
  edit: Edit
}

class InterruptedEdit {
  #found = $state.raw<Interrupted | null>(null)

  get present(): boolean {
    return this.#found !== null
  }

  store(user: string, policy: string, edit: Edit): void {
    this.#found = { user, policy, edit }
  }

  /** The edit of this policy, once, for the user who made it. Another user drops it. */
  take(user: string, policy: string): Edit | null {
    const found = this.#found
    if (found === null) return null
    const own = found.user === user
    if (own && found.policy !== policy) return null
    this.#found = null
    return own ? found.edit : null
  }
}

export const interruptedEdit = new InterruptedEdit()
