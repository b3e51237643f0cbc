/**
 * The query field over tunnels: `state:down tag:branch age:>1h -policy:lab hub`.
 *
 * Terms are combined by AND; values in one term, separated by commas, by OR; `-` in front negates. `age` is how long the state has
 * lasted. A word without a field is looked for in the names of tunnel and peers.
 */
import type { TunnelRow } from './fleet/rows'
import { STATES } from './fleet/states'

export const FIELDS = ['state', 'tag', 'peer', 'policy', 'reason', 'name', 'age'] as const
type Field = (typeof FIELDS)[number]

interface Term {
  field: Field | 'text'
  values: string[]
  negated: boolean
}

export interface Query {
  terms: readonly Term[]
  /** What is wrong with the text; such a term filters nothing. */
  errors: readonly string[]
}

export interface QueryContext {
  tagsOf(peer: string): readonly string[]
  /** Milliseconds since the epoch. */
  now: number
}

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 }
const AGE = /^(>=|<=|>|<)?(\d{1,9})([smhdw])$/

/** Parse the text of the query field. */
export function parseQuery(text: string): Query {
  const terms: Term[] = []
  const errors: string[] = []
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const negated = word.length > 1 && word.startsWith('-')
    const bare = negated ? word.slice(1) : word
    const colon = bare.indexOf(':')
    if (colon < 0) {
      terms.push({ field: 'text', values: [bare.toLowerCase()], negated })
      continue
    }
    const field = FIELDS.find((it) => it === bare.slice(0, colon).toLowerCase())
    const values = bare.slice(colon + 1).toLowerCase().split(',').filter(Boolean)
    const error = problemOf(bare.slice(0, colon), field, values)
    if (error !== null) errors.push(error)
    else if (field !== undefined) terms.push({ field, values, negated })
  }
  return { terms, errors }
}

function problemOf(name: string, field: Field | undefined, values: readonly string[]): string | null {
  if (field === undefined) return `unknown field "${name}": must be one of ${FIELDS.join(', ')}`
  if (values.length === 0) return `${field}: a value is missing, as in ${field}:${example(field)}`
  if (field === 'state') {
    const wrong = values.find((value) => !STATES.some((state) => state === value))
    if (wrong !== undefined) return `state: unknown state "${wrong}": must be one of ${STATES.join(', ')}`
  }
  if (field === 'age' && values.some((value) => !AGE.test(value))) return 'age: must be a duration such as >1h, <30s or >=2d'
  return null
}

function example(field: Field): string {
  return { state: 'down', tag: 'branch', peer: 'hub-1', policy: 'branches', reason: 'ts-mismatch', name: 'hub', age: '>1h' }[field]
}

/** Whether a row satisfies all terms. */
export function matches(query: Query, row: TunnelRow, context: QueryContext): boolean {
  return query.terms.every((term) => term.values.some((value) => holds(term.field, value, row, context)) !== term.negated)
}

function holds(field: Term['field'], value: string, row: TunnelRow, context: QueryContext): boolean {
  switch (field) {
    case 'state':
      return row.state === value
    case 'tag':
      return row.peers.some((peer) => context.tagsOf(peer).includes(value))
    case 'peer':
      return row.peers.includes(value)
    case 'policy':
      return row.policy === value
    case 'reason':
      return row.reason === value
    case 'name':
      return row.name.includes(value)
    case 'age':
      return row.since !== null && comparesAge(value, (context.now - row.since) / 1_000)
    case 'text':
      return row.name.includes(value) || row.peers.some((peer) => peer.includes(value))
  }
}

function comparesAge(value: string, seconds: number): boolean {
  const [, operator = '>=', digits = '0', unit = 's'] = AGE.exec(value) ?? []
  const limit = Number(digits) * (UNIT_SECONDS[unit] ?? 1)
  if (operator === '>') return seconds > limit
  if (operator === '<') return seconds < limit
  return operator === '<=' ? seconds <= limit : seconds >= limit
}

/** What could complete the last word of a query: fields, then the values that this fleet has. */
export function suggestions(text: string, values: Partial<Record<Field, readonly string[]>>): string[] {
  const before = text.slice(0, text.length - lastWord(text).length)
  const word = lastWord(text)
  const sign = word.startsWith('-') ? '-' : ''
  const bare = word.slice(sign.length).toLowerCase()
  const colon = bare.indexOf(':')
  if (colon < 0) return FIELDS.filter((field) => field.startsWith(bare)).map((field) => `${before}${sign}${field}:`)
  const field = FIELDS.find((it) => it === bare.slice(0, colon))
  const typed = bare.slice(colon + 1)
  const known = field === undefined ? [] : field === 'state' ? STATES : (values[field] ?? [])
  return known.filter((value) => value.startsWith(typed) && value !== typed).slice(0, 12).map((value) => `${before}${sign}${field}:${value}`)
}

function lastWord(text: string): string {
  return /\S*$/.exec(text)?.[0] ?? ''
}
