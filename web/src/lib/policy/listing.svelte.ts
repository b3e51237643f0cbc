/** The stored policies, which a view shows as they change. */
import { untrack } from 'svelte'

import { api, content } from '../api/client'
import { fleet } from '../fleet/fleet.svelte'
import { pagedListing, type Listing } from '../listing.svelte'
import type { StoredPolicy } from './revisions'

/** At most `limit` policies in the order of their ids, read again after each event about policies. Call it while a component starts. */
export function policyListing(limit: number): Listing<StoredPolicy> {
  const listing = pagedListing(
    (after) => content(api.GET('/api/policies', { params: { query: { after, limit: 200 } } })),
    (page) => page.policies,
    limit,
  )
  afterPolicyChanges(() => listing.reload())
  return listing
}

/** Do something after each event about policies from now on. Call it while a component starts. */
export function afterPolicyChanges(action: () => Promise<void>): void {
  const first = untrack(() => fleet.policyChanges)
  $effect(() => {
    if (fleet.policyChanges !== first) void untrack(action)
  })
}
