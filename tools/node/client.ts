// A client of docs/openapi.json: creates a policy, does not overwrite it, reads it back. Prints what it got, as JSON.
import createClient from 'openapi-fetch'
import type { paths } from './api.d.ts'

declare const process: { env: Record<string, string> }

const api = createClient<paths>({
  baseUrl: process.env.WARREN_URL,
  headers: { authorization: `Bearer ${process.env.WARREN_TOKEN}` },
})
const policy = { id: 'mesh', topology: { kind: 'mesh' as const, members: ['tag=branch'] } }
const put = () =>
  api.PUT('/api/policies/{policy_id}', {
    params: { path: { policy_id: 'mesh' }, header: { 'if-none-match': '*' } },
    body: policy,
  })
const created = await put()
const again = await put()
const list = await api.GET('/api/policies', { params: { query: { limit: 10 } } })
const unchanged = await api.GET('/api/policies/{policy_id}', {
  params: { path: { policy_id: 'mesh' }, header: { 'if-none-match': created.response.headers.get('etag')! } },
  parseAs: 'text',
})
console.log(
  JSON.stringify({
    created: created.response.status,
    etag: created.response.headers.get('etag'),
    again: again.response.status,
    problem: again.error?.type,
    policies: list.data?.policies.map((it) => it.policy.id),
    unchanged: unchanged.response.status,
  }),
)
