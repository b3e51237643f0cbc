/** What an audit log holds as JSON, in words. */

/** `{"tags":["branch"],"uses":1}` as `tags: branch; uses: 1`; text that is not JSON stays as it is. */
export function detailWords(detail: string): string {
  try {
    return words(JSON.parse(detail))
  } catch {
    return detail
  }
}

function words(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(words).join(', ')
  if (typeof value !== 'object' || value === null) return value === null ? 'none' : value === '' ? '""' : String(value)
  return Object.entries(value)
    .map(([name, held]) => (isPlain(held) ? `${name}: ${words(held)}` : `${name} (${words(held)})`))
    .join('; ')
}

function isPlain(value: unknown): boolean {
  return typeof value !== 'object' || value === null || (Array.isArray(value) && value.every((it) => typeof it !== 'object'))
}

/** What a row of the policies' audit log did: `created branches (version 1), deleted lab (version 3)`. */
export function policyWords(detail: string): string {
  try {
    const changes = JSON.parse(detail) as Record<string, Record<string, { version: number }>>
    return Object.entries(changes)
      .flatMap(([verb, policies]) => Object.entries(policies).map(([id, { version }]) => `${verb} ${id} (version ${version})`))
      .join(', ')
  } catch {
    return detail
  }
}
