/** Calls about policies and their versions. */
import { api, content, type Schemas } from '../api/client'

// As replies have them: openapi-fetch reads tuples as lists.
export type StoredPolicy = Awaited<ReturnType<typeof stored>>
export type Policy = StoredPolicy['policy']
export type PolicyVersion = Awaited<ReturnType<typeof history>>[number]
export type ApplyReply = Schemas['ApplyReply']

/** The stored policy. Throws ApiError: 404 if there is none. */
export function stored(id: string) {
  return content(api.GET('/api/policies/{policy_id}', { params: { path: { policy_id: id } } }))
}

/**
 * Store a policy, or with `dryRun` learn what that would do.
 *
 * `base` is the version that was edited, 0 for a policy that must not exist yet: the server refuses (409) when another one is stored.
 */
export function apply(policy: Record<string, unknown>, base: number, dryRun: boolean): Promise<ApplyReply> {
  const { version: _, ...stated } = policy
  const id = typeof stated.id === 'string' ? stated.id : ''
  return content(
    api.POST('/api/policies:apply', {
      body: {
        policies: [stated as unknown as Schemas['Policy']],
        mode: base === 0 ? 'create' : 'update',
        dry_run: dryRun,
        expected_versions: base === 0 ? {} : { [id]: base },
      },
    }),
  )
}

/** Withdraw a policy with its tunnels, or with `dryRun` learn what that would do. */
export function withdraw(id: string, base: number, dryRun: boolean): Promise<ApplyReply> {
  return content(api.POST('/api/policies:delete', { body: { ids: [id], dry_run: dryRun, expected_versions: { [id]: base } } }))
}

/** The versions of a policy, the newest first. */
export async function history(id: string) {
  const page = await content(
    api.GET('/api/policies/{policy_id}/history', { params: { path: { policy_id: id }, query: { limit: 100 } } }),
  )
  return page.versions
}
