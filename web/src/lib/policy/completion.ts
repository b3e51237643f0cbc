/** What may be written at a place of a policy, by its schema and by the fleet. */
import { placeOf } from './cursor'
import { isObject, type JsonSchema, type Path, type PolicySchema } from './schema'

export interface Offer {
  label: string
  /** What it means or holds. */
  detail: string
}

export interface Offers {
  /** What is written already of one of them. */
  word: string
  offers: Offer[]
}

export interface FleetWords {
  tags: readonly string[]
  peers: readonly string[]
}

/** Offers at the end of `before`, in a document that could be parsed last as `document`. */
export function offersAt(before: string, document: unknown, schema: PolicySchema, fleet: FleetWords): Offers {
  const place = placeOf(before)
  if (place.key === null) {
    const holders = schema.at(place.path, document)
    const lists = holders.some((it) => it.properties === undefined)
    const keys = holders.flatMap((it) => keysOf(it, schema, valueAt(document, place.path)))
    return { word: place.word, offers: distinct(lists ? [...keys, ...valuesOf(holders, schema), ...audiences(place.path, fleet)] : keys) }
  }
  const path = [...place.path, place.key]
  const schemas = schema.at(path, undefined)
  const entries = schemas.flatMap((it) => (it.items === undefined ? [] : schema.alternatives(it.items, undefined)))
  return { word: place.word, offers: distinct([...valuesOf([...schemas, ...entries], schema), ...audiences(path, fleet), ...kinds(path, schema)]) }
}

function keysOf(holder: JsonSchema, schema: PolicySchema, value: unknown): Offer[] {
  const present = isObject(value) ? Object.keys(value) : []
  return Object.entries(holder.properties ?? {})
    .filter(([name]) => name !== 'version' && !present.includes(name))
    .map(([name, property]) => ({ label: `${name}: `, detail: describe(schema.resolve(property)) }))
}

function valuesOf(schemas: readonly JsonSchema[], schema: PolicySchema): Offer[] {
  return schemas.flatMap((it) => {
    const resolved = schema.resolve(it)
    if (resolved.const !== undefined) return [{ label: String(resolved.const), detail: '' }]
    if (resolved.enum !== undefined) return resolved.enum.map((word) => ({ label: String(word), detail: '' }))
    if (resolved.type === 'boolean') return ['true', 'false'].map((label) => ({ label, detail: '' }))
    return []
  })
}

/** The kinds of a topology or an authentication, which are alternatives of what holds the field. */
function kinds(path: Path, schema: PolicySchema): Offer[] {
  if (path.at(-1) !== 'kind') return []
  return schema.at(path.slice(0, -1), undefined).flatMap((it) => {
    const kind = schema.kindOf(it)
    return kind === undefined ? [] : [{ label: String(kind), detail: it.description ?? '' }]
  })
}

const AUDIENCE_FIELDS = new Set<string | number | undefined>(['hubs', 'spokes', 'members', 'sites', 'applies_to'])

/** Selectors of peers, where the field takes them. */
function audiences(path: Path, fleet: FleetWords): Offer[] {
  const field = [...path].reverse().find((step) => typeof step === 'string')
  if (field === 'peer') return fleet.peers.map((peer) => ({ label: peer, detail: 'gateway' }))
  if (!AUDIENCE_FIELDS.has(field)) return []
  return [
    ...fleet.tags.map((tag) => ({ label: `tag=${tag}`, detail: 'tag' })),
    ...fleet.peers.map((peer) => ({ label: `peer=${peer}`, detail: 'gateway' })),
  ]
}

function valueAt(document: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, step) => (isObject(value) || Array.isArray(value) ? (value as Record<string | number, unknown>)[step] : undefined), document)
}

function describe(schema: JsonSchema): string {
  return (schema.description ?? schema.enum?.join(' | ') ?? schema.type ?? '').split('\n')[0] ?? ''
}

function distinct(offers: readonly Offer[]): Offer[] {
  return [...new Map(offers.map((offer) => [offer.label, offer])).values()]
}
