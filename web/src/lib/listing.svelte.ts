/** A listing that a view shows and reads again after a change. */
import { everyPage, problemFrom, type Problem } from './api/client'

export class Listing<Entry> {
  entries = $state.raw<readonly Entry[] | null>(null)
  problem = $state.raw<Problem | null>(null)

  constructor(private readonly read: () => Promise<readonly Entry[]>) {
    void this.reload()
  }

  async reload(): Promise<void> {
    try {
      this.entries = await this.read()
      this.problem = null
    } catch (error) {
      this.problem = problemFrom(error)
    }
  }

  /** Do something, then read again. */
  async after(action: Promise<unknown>): Promise<void> {
    await action
    await this.reload()
  }
}

/** A listing that comes in pages, of which at most `limit` entries are read. */
export function pagedListing<Page extends { next_after?: string | null }, Entry>(
  read: (after: string) => Promise<Page>,
  entries: (page: Page) => readonly Entry[],
  limit: number,
): Listing<Entry> {
  return new Listing(async () => (await everyPage(read, entries, limit)).found)
}
