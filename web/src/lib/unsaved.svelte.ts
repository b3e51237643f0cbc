/** The edits of the open view that are not stored: where leaving it would lose them, the user decides first. */

export interface Edits {
  /** Whether leaving loses something. */
  readonly unsaved: boolean
  /** Discard what is not stored. */
  reset(): void
}

class UnsavedEdits {
  #edits: Edits | null = null
  #leave = $state.raw<(() => void) | null>(null)

  /** Ask before the edits of a view are lost. Returns what ends that, for when the view closes. */
  watch(edits: Edits): () => void {
    this.#edits = edits
    return () => {
      if (this.#edits !== edits) return
      this.#edits = null
      this.#leave = null
    }
  }

  get present(): boolean {
    return this.#edits?.unsaved ?? false
  }

  /** Whether the user is asked now. */
  get asks(): boolean {
    return this.#leave !== null
  }

  /** Leave the view: at once, or when the user discards the unsaved edits. */
  before(leave: () => void): void {
    if (this.present) this.#leave = leave
    else leave()
  }

  keep(): void {
    this.#leave = null
  }

  discard(): void {
    const leave = this.#leave
    this.#leave = null
    this.#edits?.reset()
    leave?.()
  }
}

export const unsavedEdits = new UnsavedEdits()
