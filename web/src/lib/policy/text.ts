/** A policy as YAML text, and back: with the line of each field, for findings. */
import { isMap, isScalar, isSeq, parseDocument, stringify, type Document, type Node } from 'yaml'

import type { Schemas } from '../api/client'
import type { Policy } from './revisions'
import { isObject, type PolicySchema } from './schema'

/** A finding about a text. `line` counts from 1. */
export interface Finding {
  line: number
  field: string
  message: string
  severity: 'error' | 'warning'
}

export interface ParsedText {
  /** The policy in the text; null: the text is not a policy. */
  policy: Record<string, unknown> | null
  document: Document
  findings: Finding[]
}

// As the command reads it: YAML 1.2, no repeated keys, no merge keys. Aliases could make a small text a huge document.
const OPTIONS = { version: '1.2', uniqueKeys: true, strict: true, merge: false } as const
const MAX_ALIASES = 0

/** Parse a text. The server checks the policy; this finds only what prevents sending it. */
export function parseText(text: string): ParsedText {
  const document = parseDocument(text, { ...OPTIONS, prettyErrors: false })
  const findings = document.errors.map((error) => finding(lineAt(text, error.pos[0]), '', error.message))
  if (findings.length > 0) return { policy: null, document, findings }
  try {
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES })
    if (isObject(value)) return { policy: value, document, findings }
    return { policy: null, document, findings: [finding(1, '', 'a policy is a mapping of fields, beginning with `id: NAME`')] }
  } catch {
    return { policy: null, document, findings: [finding(1, '', 'aliases (*name) are not allowed: write the fields out')] }
  }
}

function finding(line: number, field: string, message: string): Finding {
  return { line, field, message, severity: 'error' }
}

/** What the server says about a policy, at the lines of its fields. */
export function findingsOf(text: string, errors: readonly Schemas['InvalidField'][], severity: Finding['severity']): Finding[] {
  const { document } = parseText(text)
  return errors.map((error) => {
    const field = error.field.replace(/^policies\/\d+\/?/, '').replace(/^\(root\)\/?/, '')
    return { line: lineOf(text, document, field), field, message: error.message, severity }
  })
}

/** The line of a field such as `topology/spokes/0`; an absent field has the line of its parent. */
export function lineOf(text: string, document: Document, field: string): number {
  let node: unknown = document.contents
  let offset = (document.contents as Node | null)?.range?.[0] ?? 0
  for (const part of field.split('/').filter(Boolean)) {
    const [at, child] = step(node, part)
    if (at === null) break
    offset = at
    node = child
  }
  return lineAt(text, offset)
}

function step(node: unknown, part: string): [number | null, unknown] {
  if (isMap(node)) {
    const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === part)
    if (pair !== undefined) return [(pair.key as Node).range?.[0] ?? null, pair.value]
  }
  if (isSeq(node) && /^\d+$/.test(part)) {
    const entry = node.items[Number(part)] as Node | undefined
    if (entry !== undefined) return [entry.range?.[0] ?? null, entry]
  }
  return [null, null]
}

function lineAt(text: string, offset: number): number {
  let line = 1
  for (let index = text.indexOf('\n'); index >= 0 && index < offset; index = text.indexOf('\n', index + 1)) line += 1
  return line
}

/** A stored policy as text, without defaults and without its version, which the page keeps itself. */
export function textOf(policy: Policy, schema: PolicySchema): string {
  const { version: _, ...stated } = policy
  return stringify(schema.prune(stated, schema.root, true), { version: '1.2', lineWidth: 100 })
}

export const TEMPLATE = `id: my-policy
description: What it is for.
topology:
  kind: hub-spoke           # or site-to-site, mesh
  hubs: [tag=hub]
  spokes: [tag=branch]
crypto:
  profile: nist-800-77r1
`
