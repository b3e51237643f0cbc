/** Where the page is: the address bar holds the view, and what is filtered and sorted in it. */
import { placeOf, type Place } from './routes'

class Router {
  #path = $state(location.pathname)
  #search = $state(location.search)

  constructor() {
    window.addEventListener('popstate', () => this.#read())
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

  /** Go to a path of this page. */
  go(path: string): void {
    history.pushState(null, '', path)
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
    history.replaceState(null, '', text === '' ? this.#path : `${this.#path}?${text}`)
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
    this.go(link.pathname + link.search)
  }
}

export const router = new Router()
