/** A policy while it is edited: its text, what the server says about it, and who else has changed it meanwhile. */
import { ApiError, problemFrom, type Problem } from '../api/client'
import type { Edit } from './interrupted.svelte'
import { apply, deletionOf, plan, stored, type ApplyReply, type PolicyPlan, type PolicyVersion, type StoredPolicy } from './revisions'
import { policySchema, type PolicySchema } from './schema'
import { findingsOf, parseText, TEMPLATE, textOf, type Finding } from './text'

const CHECK_AFTER_MS = 400 // after the last key press

export class PolicyDraft {
  text = $state('')
  /** What the edit began with: the text of `base`. */
  original = $state('')
  /** The version that was edited; 0: a new policy. */
  base = $state(0)
  stored = $state.raw<StoredPolicy | null>(null)
  schema = $state.raw<PolicySchema | null>(null)
  findings = $state.raw<readonly Finding[]>([])
  /** What applying this text would do; null: not known for this text. */
  plan = $state.raw<PolicyPlan | null>(null)
  checking = $state(false)
  problem = $state.raw<Problem | null>(null)
  /** What somebody else has stored since the edit began; its author must decide. */
  conflict = $state.raw<StoredPolicy | null>(null)
  /** The policy is not stored any more: who deleted it when. The author of an edit must decide. */
  deletion = $state.raw<PolicyVersion | null>(null)
  /** Incremented when the text is replaced other than by typing. */
  replaced = $state(0)

  #timer: ReturnType<typeof setTimeout> | undefined
  #check = 0
  #id = '' // of a stored or deleted policy

  get changed(): boolean {
    return this.text !== this.original
  }

  /** The text without changes: what is stored, or the template of a new policy. */
  get #untouched(): string {
    return this.original === '' ? TEMPLATE : this.original
  }

  /** Whether leaving loses something that was written. */
  get unsaved(): boolean {
    return this.replaced > 0 && this.text !== this.#untouched // before the first replacement nothing is loaded
  }

  /** What is needed to resume this edit in another draft. */
  get snapshot(): Edit {
    return { text: this.text, original: this.original, base: this.base, stored: this.stored }
  }

  get canApply(): boolean {
    return this.plan !== null && !this.checking && this.conflict === null && this.deletion === null && !this.findings.some((it) => it.severity === 'error')
  }

  /** Begin with a stored or a deleted policy; or with a template. Throws ApiError. */
  async load(id: string | null): Promise<void> {
    this.schema = await policySchema()
    this.#id = id ?? ''
    if (id === null) this.#replace(TEMPLATE, '', 0)
    else await this.#read()
  }

  /** Read what is stored. Throws ApiError. */
  async #read(): Promise<void> {
    let found: StoredPolicy
    try {
      found = await stored(this.#id)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error
      this.deletion = await deletionOf(this.#id)
      this.plan = null
      this.conflict = null
      return
    }
    this.deletion = null
    if (found.policy.version === this.base) return
    if (this.changed) this.conflict = found
    else this.#accept(found)
  }

  #accept(found: StoredPolicy): void {
    this.stored = found
    this.#id = found.policy.id
    this.deletion = null
    const text = this.#textOf(found)
    this.#replace(text, text, found.policy.version ?? 0)
    this.conflict = null
    this.plan = null
    this.findings = []
  }

  #textOf(found: StoredPolicy): string {
    return this.schema === null ? '' : textOf(found.policy, this.schema)
  }

  #replace(text: string, original: string, base: number): void {
    this.text = text
    this.original = original
    this.base = base
    this.replaced += 1
  }

  /** The text of what is stored by somebody else. */
  get theirs(): string {
    return this.conflict === null ? '' : this.#textOf(this.conflict)
  }

  /** Resume an edit in place of what was loaded. A version that was stored since it began is a conflict. */
  resume(edit: Edit): void {
    const newest = this.stored
    this.stored = edit.stored
    this.#replace(edit.text, edit.original, edit.base)
    if (newest !== null && newest.policy.version !== edit.base) this.conflict = newest
    else if (this.deletion === null) void this.check()
  }

  /** Set the text, and schedule a check of it. */
  edit(text: string): void {
    if (text === this.text) return
    this.text = text
    this.plan = null
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.check(), CHECK_AFTER_MS)
  }

  /** Ask the server what is wrong with the text, and what it would do. */
  async check(): Promise<void> {
    const mine = ++this.#check
    const text = this.text
    const { policy, findings } = parseText(text)
    this.problem = null
    if (policy === null) {
      this.findings = findings
      this.checking = false
      return
    }
    this.checking = true
    try {
      const found = await plan(policy)
      if (mine !== this.#check) return
      if (!this.#isOnBase(found)) return
      this.plan = found
      this.findings = findingsOf(text, found.warnings, 'warning')
    } catch (error) {
      if (mine === this.#check) await this.#refused(error, text)
    } finally {
      if (mine === this.#check) this.checking = false
    }
  }

  /** Whether a plan is about the version that was edited; if not, its author must decide. */
  #isOnBase(found: PolicyPlan): boolean {
    const planned = found.policies[0]
    if (planned === undefined || planned.version === this.base) return true
    if (planned.id === this.stored?.policy.id) void this.refresh()
    else this.findings = [{ line: 1, field: 'id', message: `the policy ${planned.id} exists already: open it to edit it`, severity: 'error' }]
    return false
  }

  /** Store the text as it was planned. Returns the reply; null: refused, and the draft says why. */
  async apply(): Promise<ApplyReply | null> {
    const { policy } = parseText(this.text)
    if (policy === null || this.plan === null) return null
    this.problem = null
    try {
      const reply = await apply(policy, this.base, this.plan.mark)
      this.#accept(await stored(String(policy.id)))
      return reply
    } catch (error) {
      await this.#refused(error, this.text)
      return null
    }
  }

  async #refused(error: unknown, text: string): Promise<void> {
    this.plan = null
    const problem = problemFrom(error)
    if (error instanceof ApiError && (error.status === 409 || error.status === 404)) await this.refresh()
    if (this.conflict !== null || this.deletion !== null) return
    this.findings = findingsOf(text, problem.errors ?? [], 'error')
    if (this.findings.length === 0) this.problem = problem
  }

  /** Look whether somebody else has changed or deleted the policy. An unchanged draft follows; the author of a changed one decides. */
  async refresh(): Promise<void> {
    if (this.#id === '') return
    try {
      await this.#read()
    } catch (error) {
      this.problem = problemFrom(error)
    }
  }

  /** Continue with the text of this draft, which replaces what the other has stored. */
  keepMine(): void {
    if (this.conflict === null) return
    this.stored = this.conflict
    this.base = this.conflict.policy.version ?? 0
    this.original = this.theirs
    this.conflict = null
    void this.check()
  }

  /** Discard the text of this draft for what the other has stored. */
  takeTheirs(): void {
    if (this.conflict !== null) this.#accept(this.conflict)
  }

  /** Continue with the text of this draft, which creates the deleted policy again. */
  createAgain(): void {
    this.base = 0
    this.original = ''
    this.deletion = null
    void this.check()
  }

  /** Discard the changes of this draft. */
  reset(): void {
    this.#replace(this.#untouched, this.original, this.base)
    this.plan = null
    this.findings = []
  }
}
