/** Where the page is: the address bar holds the view, and what is filtered and sorted in it. */
import { isSamePlace, placeOf, type Place } from './routes'
import { unsavedEdits } from './unsaved.svelte'

/** What the browser stores with each entry of its history: its number, so that a step back or forward can be taken back. */
interface Entry {
  entry: number
}

function numberOf(state: unknown): number | null {
  return typeof state === 'object' && state !== null && 'entry' in state && typeof state.entry === 'number' ? state.entry : null
}

class Router {
  #path = $state(location.pathname)
  #search = $state(location.search)
  #entry = numberOf(history.state) ?? 0

  constructor() {
    history.replaceState(this.#state, '')
    window.addEventListener('popstate', () => this.#followHistory())
    document.addEventListener('click', (event) => this.#followLink(event))
  }

  get place(): Place | null {
    return placeOf(this.#path)
  }

  get path(): string {
    return this.#path
  }

  /** A parameter of the query; empty: it has none. */
  parameter(name: string): string {
    return new URLSearchParams(this.#search).get(name) ?? ''
  }

  /** Go to a path of this page, also from unsaved edits. */
  go(path: string): void {
    this.#entry += 1
    history.pushState(this.#state, '', path)
    this.#read()
    window.scrollTo(0, 0)
  }

  /** Set parameters of the query in place; empty ones are removed. */
  setParameters(values: Record<string, string>): void {
    const query = new URLSearchParams(this.#search)
    for (const [name, value] of Object.entries(values)) {
      if (value === '') query.delete(name)
      else query.set(name, value)
    }
    const text = query.toString()
    history.replaceState(this.#state, '', text === '' ? this.#path : `${this.#path}?${text}`)
    this.#read()
  }

  get #state(): Entry {
    return { entry: this.#entry }
  }

  /** A step back or forward has been taken. No browser lets a page prevent one: from unsaved edits it is taken back until the user decides. */
  #followHistory(): void {
    const found = numberOf(history.state)
    const steps = (found ?? this.#entry + 1) - this.#entry
    if (steps !== 0 && unsavedEdits.present && !isSamePlace(placeOf(location.pathname), this.place)) {
      history.go(-steps)
      unsavedEdits.before(() => history.go(steps))
      return
    }
    this.#entry += steps
    if (found === null) history.replaceState(this.#state, '') // a new entry, by a change after `#` in the address bar
    this.#read()
  }

  #read(): void {
    this.#path = location.pathname
    this.#search = location.search
  }

  /** A plain click on a link of this page changes the view without a request for it. */
  #followLink(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const link = event.target instanceof Element ? event.target.closest('a') : null
    if (link === null || link.origin !== location.origin || link.hasAttribute('download')) return
    if (placeOf(link.pathname) === null) return
    event.preventDefault()
    const path = link.pathname + link.search
    if (link.hash !== '' && path === location.pathname + location.search) {
      document.getElementById(link.hash.slice(1))?.focus() // the place in the view that a reader jumps to
      return
    }
    if (isSamePlace(placeOf(link.pathname), this.place)) this.go(path)
    else unsavedEdits.before(() => this.go(path))
  }
}

export const router = new Router()
