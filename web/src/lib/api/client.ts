/** Calls of the API: types are generated from docs/openapi.json, every failure is one Problem. */
import createClient, { type Middleware } from 'openapi-fetch'

import type { components, paths } from './schema'
import { serverClock } from '../clock.svelte'

export type Schemas = components['schemas']
export type Problem = Schemas['Problem']

/** The API refused a call, or could not be reached (status 0). */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title)
  }

  get status(): number {
    return this.problem.status
  }
}

/** What is done when the API says that nobody is signed in. */
let onSignedOut = (): void => undefined

export function whenSignedOut(action: () => void): void {
  onSignedOut = action
}

/** Observe each response: its Date sets the clock, and 401 ends the session. */
export function observe(response: Response): void {
  serverClock.setBy(response.headers.get('date'))
  if (response.status === 401) onSignedOut()
}

const observing: Middleware = {
  onResponse({ response }) {
    observe(response)
  },
}

// `fetch` is looked up with each call, so that tests can replace it.
export const api = createClient<paths>({ baseUrl: '', fetch: (request) => fetch(request) })
api.use(observing)

interface Result<Data> {
  data?: Data
  error?: unknown
  response: Response
}

/** The content of a reply. Throws ApiError. */
export async function content<Data>(call: Promise<Result<Data>>): Promise<Data> {
  let result: Result<Data>
  try {
    result = await call
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new ApiError(problemOf(0, 'Not reachable', `the API server cannot be reached: ${why}`))
  }
  if (result.response.ok) return result.data as Data
  throw new ApiError(asProblem(result.error, result.response))
}

function asProblem(body: unknown, response: Response): Problem {
  if (typeof body === 'object' && body !== null && 'title' in body && 'status' in body) return body as Problem
  return problemOf(response.status, response.statusText || 'Failed', `the API server replied ${response.status}`)
}

function problemOf(status: number, title: string, detail: string): Problem {
  return { type: 'about:blank', title, status, detail, instance: '', errors: [] }
}

/** Whatever was thrown, as a Problem to show. */
export function problemFrom(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem
  return problemOf(0, 'Failed', error instanceof Error ? error.message : String(error))
}

/** All entries of a listing that comes in pages, up to `limit`; `more` says whether there are further ones. */
export async function everyPage<Page extends { next_after?: string | null }, Entry>(
  read: (after: string) => Promise<Page>,
  entries: (page: Page) => readonly Entry[],
  limit: number,
  progress: (found: readonly Entry[]) => void = () => undefined,
): Promise<{ found: Entry[]; more: boolean }> {
  const found: Entry[] = []
  let after: string | null | undefined = ''
  while (typeof after === 'string' && found.length < limit) {
    const page: Page = await read(after)
    found.push(...entries(page))
    after = page.next_after
    if (typeof after === 'string') progress(found)
  }
  return { found, more: typeof after === 'string' }
}
