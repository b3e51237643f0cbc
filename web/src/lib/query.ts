/**
 * The query field over tunnels: `state:down tag:branch age:>1h -policy:lab hub`.
 *
 * The same language as the command's and the API's (docs/interfaces.md): terms are combined by AND, values with commas by OR, `-` negates,
 * `*` stands for any characters, a word without a field is in the name. tests/data/tunnel-queries.json has what it must answer.
 */
import { REASON_CODES, TUNNEL_STATES } from './api/values'
import type { TunnelRow } from './fleet/rows'

export const FIELDS = ['name', 'state', 'reason', 'peer', 'tag', 'policy', 'is', 'age'] as const
type Field = (typeof FIELDS)[number]
const FLAGS = ['stale', 'disagreeing'] as const
const CHOICES: Partial<Record<Field, readonly string[]>> = { state: TUNNEL_STATES, reason: REASON_CODES, is: FLAGS }

type Test = (row: TunnelRow, context: QueryContext) => boolean

export interface Query {
  tests: readonly Test[]
  /** What is wrong with the text; such a term filters nothing. */
  errors: readonly string[]
}

export interface QueryContext {
  tagsOf(peer: string): readonly string[]
  /** Milliseconds since the epoch. */
  now: number
}

class TermError extends Error {}

/** Parse the text of the query field. */
export function parseQuery(text: string): Query {
  const tests: Test[] = []
  const errors: string[] = []
  for (const term of text.split(/\s+/).filter(Boolean)) {
    try {
      tests.push(parseTerm(term))
    } catch (error) {
      if (!(error instanceof TermError)) throw error
      errors.push(`${term}: ${error.message}`)
    }
  }
  return { tests, errors }
}

/** Whether a row satisfies all terms. */
export function matches(query: Query, row: TunnelRow, context: QueryContext): boolean {
  return query.tests.every((test) => test(row, context))
}

function parseTerm(term: string): Test {
  const negated = term.startsWith('-')
  const body = negated ? term.slice(1) : term
  const test = body.includes(':') ? fieldTest(body) : textTest(body)
  return negated ? (row, context) => !test(row, context) : test
}

function textTest(word: string): Test {
  if (word === '') throw new TermError('a term must follow')
  const wanted = word.toLowerCase()
  return (row) => row.name.toLowerCase().includes(wanted)
}

function fieldTest(body: string): Test {
  const colon = body.indexOf(':')
  const name = body.slice(0, colon).toLowerCase()
  const field = FIELDS.find((it) => it === name)
  if (field === undefined) throw new TermError(`unknown field "${name}": must be one of ${FIELDS.join(', ')}`)
  const values = body.slice(colon + 1).toLowerCase().split(',')
  if (values.includes('')) throw new TermError(`a value is missing after ":" or ","`)
  if (field === 'age') {
    const limits = values.map(ageTest)
    return (row, context) => limits.some((limit) => limit(row, context))
  }
  const allowed = CHOICES[field]
  const wrong = values.find((value) => allowed !== undefined && !allowed.includes(value))
  if (wrong !== undefined) throw new TermError(`unknown ${field} "${wrong}": must be one of ${allowed?.join(', ')}`)
  const patterns = values.map(patternOf)
  return (row, context) => read(field, row, context).some((found) => patterns.some((pattern) => pattern.test(found.toLowerCase())))
}

/** The values of a field of a row, of which one must match. */
function read(field: Exclude<Field, 'age'>, row: TunnelRow, context: QueryContext): readonly string[] {
  switch (field) {
    case 'name':
      return [row.name]
    case 'state':
      return [row.state]
    case 'reason':
      return row.reasons
    case 'peer':
      return row.peers
    case 'tag':
      return row.peers.flatMap((peer) => context.tagsOf(peer))
    case 'policy':
      return row.policies
    case 'is':
      return [...(row.silent.length > 0 ? ['stale'] : []), ...(row.disagreement ? ['disagreeing'] : [])]
  }
}

/** Only `*` is special. */
function patternOf(value: string): RegExp {
  const parts = value.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`)
}

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400 }
const AGE = /^(>=|<=|>|<)?(\d{1,9})([smhd])$/
const COMPARISONS: Record<string, (age: number, limit: number) => boolean> = {
  '>': (age, limit) => age > limit,
  '>=': (age, limit) => age >= limit,
  '<': (age, limit) => age < limit,
  '<=': (age, limit) => age <= limit,
}

function ageTest(value: string): Test {
  const found = AGE.exec(value)
  if (found === null) throw new TermError('an age is a comparison, a number and a unit (s, m, h, d), such as >1h or <=5m')
  const [, operator = '>=', digits = '0', unit = 's'] = found
  const limit = Number(digits) * (UNIT_SECONDS[unit] ?? 1)
  const compare = COMPARISONS[operator]
  return (row, context) => row.since !== null && compare !== undefined && compare((context.now - row.since) / 1_000, limit)
}

/** What could complete the last word of a query: fields, then the values that this fleet has. */
export function suggestions(text: string, values: Partial<Record<Field, readonly string[]>>): string[] {
  const word = /\S*$/.exec(text)?.[0] ?? ''
  const before = text.slice(0, text.length - word.length)
  const sign = word.startsWith('-') ? '-' : ''
  const bare = word.slice(sign.length).toLowerCase()
  const colon = bare.indexOf(':')
  if (colon < 0) return FIELDS.filter((field) => field.startsWith(bare)).map((field) => `${before}${sign}${field}:`)
  const field = FIELDS.find((it) => it === bare.slice(0, colon))
  if (field === undefined) return []
  const typed = bare.slice(colon + 1)
  const known = values[field] ?? CHOICES[field] ?? []
  return known.filter((value) => value.startsWith(typed) && value !== typed).slice(0, 12).map((value) => `${before}${sign}${field}:${value}`)
}
