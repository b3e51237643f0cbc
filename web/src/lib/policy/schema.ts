/** Walks the JSON Schema of a policy, as the API publishes it: for completion, and to leave defaults out of what is shown. */
import { ApiError, observe } from '../api/client'

export interface JsonSchema {
  $ref?: string
  type?: string
  properties?: Record<string, JsonSchema>
  required?: readonly string[]
  items?: JsonSchema
  prefixItems?: readonly JsonSchema[]
  anyOf?: readonly JsonSchema[]
  oneOf?: readonly JsonSchema[]
  enum?: readonly unknown[]
  const?: unknown
  default?: unknown
  description?: string
  title?: string
}

export type Path = readonly (string | number)[]

/** The schemas of an OpenAPI document; `root` is the one of a whole policy. */
export class PolicySchema {
  readonly root: JsonSchema

  constructor(private readonly schemas: Readonly<Record<string, JsonSchema>>, root = 'Policy') {
    this.root = schemas[root] ?? {}
  }

  /** A schema with its reference followed. */
  resolve(schema: JsonSchema | undefined): JsonSchema {
    let found = schema ?? {}
    for (let depth = 0; found.$ref !== undefined && depth < 16; depth += 1) {
      found = this.schemas[found.$ref.split('/').pop() ?? ''] ?? {}
    }
    return found
  }

  /** The alternatives of a schema, itself if it has none; of those with a `kind`, only the one that `value` has. */
  alternatives(schema: JsonSchema | undefined, value: unknown): JsonSchema[] {
    const resolved = this.resolve(schema)
    const members = resolved.anyOf ?? resolved.oneOf
    if (members === undefined) return [resolved]
    const found = members.flatMap((member) => this.alternatives(member, value)).filter((it) => it.type !== 'null')
    const kind = isObject(value) ? value.kind : undefined
    const exact = found.filter((it) => this.kindOf(it) !== undefined && this.kindOf(it) === kind)
    return exact.length > 0 ? exact : found
  }

  /** The word that a schema's `kind` must be; undefined: it has none. */
  kindOf(schema: JsonSchema): unknown {
    const kind = this.resolve(schema.properties?.kind)
    return kind.const ?? (kind.enum?.length === 1 ? kind.enum[0] : undefined)
  }

  /** The schemas that the value at a path may have, in a document that is being written. */
  at(path: Path, document: unknown): JsonSchema[] {
    let schemas = this.alternatives(this.root, document)
    let value = document
    for (const step of path) {
      value = isObject(value) || Array.isArray(value) ? (value as Record<string | number, unknown>)[step] : undefined
      const child = value
      schemas = schemas.flatMap((schema) => this.step(schema, step)).flatMap((schema) => this.alternatives(schema, child))
    }
    return schemas
  }

  private step(schema: JsonSchema, step: string | number): JsonSchema[] {
    const found = typeof step === 'number' ? (schema.prefixItems?.[step] ?? schema.items) : schema.properties?.[step]
    return found === undefined ? [] : [found]
  }

  /** A value without its defaults; undefined: it has nothing else. */
  prune(value: unknown, schema: JsonSchema | undefined, required = false): unknown {
    const resolved = this.resolve(schema)
    if (value === null && !required) return undefined
    if (!required && 'default' in (schema ?? {}) && isEqual(value, schema?.default)) return undefined
    if (!required && 'default' in resolved && isEqual(value, resolved.default)) return undefined
    const [first] = this.alternatives(schema, value)
    if (Array.isArray(value)) {
      return value.map((entry, index) => this.prune(entry, first?.prefixItems?.[index] ?? first?.items, true))
    }
    if (!isObject(value)) return value
    const kept = Object.entries(value).flatMap(([name, entry]) => {
      const needed = first?.required?.includes(name) ?? false
      const pruned = this.prune(entry, first?.properties?.[name], needed)
      return pruned === undefined ? [] : [[name, pruned] as const]
    })
    return kept.length === 0 && !required ? undefined : Object.fromEntries(kept)
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

let loading: Promise<PolicySchema> | null = null

/** The schema of this server's policies, read once. */
export function policySchema(): Promise<PolicySchema> {
  loading ??= read().catch((error: unknown) => {
    loading = null
    throw error
  })
  return loading
}

async function read(): Promise<PolicySchema> {
  const response = await fetch('/api/openapi.json')
  observe(response)
  if (!response.ok) {
    throw new ApiError({ type: 'about:blank', title: 'No schema', status: response.status, detail: 'the schema of policies cannot be read', instance: '', errors: [] })
  }
  const document = (await response.json()) as { components: { schemas: Record<string, JsonSchema> } }
  return new PolicySchema(document.components.schemas)
}
