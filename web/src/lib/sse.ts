/** Server-sent events (WHATWG HTML, 9.2) from the text of a response, comments included: they show that the connection lives. */

export interface Message {
  id: string
  event: string
  data: string
}

/** Collects text in pieces of any size, and returns the messages that are complete. */
export class SseParser {
  #rest = ''
  #id = ''
  #event = ''
  #data: string[] = []

  push(text: string): Message[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop() ?? ''
    const found: Message[] = []
    for (const line of lines) {
      if (line !== '') this.#field(line)
      else if (this.#data.length > 0) {
        found.push({ id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') })
        this.#event = ''
        this.#data = []
      }
    }
    return found
  }

  #field(line: string): void {
    const colon = line.indexOf(':')
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'data') this.#data.push(value)
    else if (name === 'event') this.#event = value
    else if (name === 'id') this.#id = value
  }
}
