/** Calls about policies and their versions. */
import { api, ApiError, content, type Schemas } from '../api/client'

// As replies have them: openapi-fetch reads tuples as lists.
export type StoredPolicy = Awaited<ReturnType<typeof stored>>
export type Policy = StoredPolicy['policy']
export type PolicyVersion = Awaited<ReturnType<typeof history>>['versions'][number]
export type PolicyPlan = Awaited<ReturnType<typeof plan>>
export type ApplyReply = Schemas['ApplyReply']

const PAGE = 100 // versions of one call
const NO_DELETION = { type: 'about:blank', title: 'Not found', status: 404, instance: '', errors: [] }

/** The stored policy. Throws ApiError: 404 if there is none. */
export function stored(id: string) {
  return content(api.GET('/api/policies/{policy_id}', { params: { path: { policy_id: id } } }))
}

/** What storing a policy would do: each field that changes, and the effect on each tunnel. The version is the page's own to state. */
export function plan(policy: Record<string, unknown>) {
  return content(api.POST('/api/policies:plan', { body: { policies: [stated(policy)], after: '', limit: 500 } }))
}

/**
 * Store a policy exactly as it was planned; anything else is refused (409).
 *
 * `base` is the version that was edited, 0 for a policy that must not exist yet.
 */
export function apply(policy: Record<string, unknown>, base: number, mark: PolicyPlan['mark']): Promise<ApplyReply> {
  const body = {
    policies: [stated(policy)],
    mode: base === 0 ? ('create' as const) : ('update' as const),
    dry_run: false,
    expected_versions: base === 0 ? {} : { [String(policy.id)]: base },
    plan: mark,
  }
  return content(api.POST('/api/policies:apply', { body }))
}

function stated(policy: Record<string, unknown>): Schemas['Policy'] {
  const { version: _, ...rest } = policy
  return rest as unknown as Schemas['Policy']
}

/** Store the content of version `to` again, in place of version `base`; null: of a policy that was deleted, and of no other (409). */
export function rollBack(id: string, to: number, base: number | null): Promise<ApplyReply> {
  const mode = base === null ? ('create' as const) : ('update' as const)
  const call = { params: { path: { policy_id: id } }, body: { to, mode, version: base ?? 0, dry_run: false } }
  return content(api.POST('/api/policies/{policy_id}/rollback', call))
}

/** Withdraw a policy with its tunnels. */
export function withdraw(id: string, base: number): Promise<ApplyReply> {
  return content(api.POST('/api/policies:delete', { body: { ids: [id], dry_run: false, expected_versions: { [id]: base } } }))
}

/** The deletion of a policy that is not stored any more. Throws ApiError: 404 if it is stored, or never was. */
export async function deletionOf(id: string): Promise<PolicyVersion> {
  const call = { params: { path: { policy_id: id }, query: { before: 0, limit: 1 } } }
  const [newest] = (await content(api.GET('/api/policies/{policy_id}/history', call))).versions
  if (newest?.action === 'deleted') return newest
  throw new ApiError({ ...NO_DELETION, detail: `${id} was not deleted: read it again` })
}

/**
 * Versions of a policy, the newest first, before revision `before` (0: from the newest on): a page of them, and further ones until
 * one older than revision `downTo`. `before` of the reply is where the next page begins; null: that was all.
 */
export async function history(id: string, before = 0, downTo = Number.POSITIVE_INFINITY) {
  const read = (from: number) =>
    content(api.GET('/api/policies/{policy_id}/history', { params: { path: { policy_id: id }, query: { before: from, limit: PAGE } } }))
  let page = await read(before)
  const versions = [...page.versions]
  while (typeof page.next_before === 'number' && (versions.at(-1)?.revision ?? 0) >= downTo) {
    page = await read(page.next_before)
    versions.push(...page.versions)
  }
  return { versions, before: page.next_before ?? null }
}
