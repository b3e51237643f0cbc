/** Where the cursor is in a YAML text that is being written: by indentation, as such a text often cannot be parsed. */
import type { Path } from './schema'

export interface Place {
  /** The mapping or list that the line belongs to. */
  path: Path
  /** The key whose value is being written; null: a key is. */
  key: string | null
  /** What is written so far of the key or value. */
  word: string
}

const LINE = /^(\s*)((?:- +)*)(?:([A-Za-z_][\w-]*)\s*:\s?(.*)|(.*))$/

interface Entry {
  indent: number
  step: string | number
}

/** The place at the end of the last line of `before`, which is the text up to the cursor. */
export function placeOf(before: string): Place {
  const lines = before.split('\n')
  const last = lines.pop() ?? ''
  const stack: Entry[] = []
  for (const line of lines) if (line.trim() !== '' && !line.trimStart().startsWith('#')) enter(stack, line)
  const [, indent = '', dashes = '', key, value, bare = ''] = LINE.exec(last) ?? []
  leave(stack, indent.length, dashes !== '')
  dash(stack, indent.length, dashes)
  const path = stack.map((entry) => entry.step)
  if (key !== undefined) return { path, key, word: lastWord(value ?? '') }
  return { path, key: null, word: bare.trimStart() }
}

function enter(stack: Entry[], line: string): void {
  const [, indent = '', dashes = '', key] = LINE.exec(line) ?? []
  leave(stack, indent.length, dashes !== '')
  dash(stack, indent.length, dashes)
  if (key !== undefined) stack.push({ indent: indent.length + dashes.length, step: key })
}

/** Leave the mappings and lists that a line of this indentation is not in. A list may stand at the indentation of its own key. */
function leave(stack: Entry[], indent: number, isItem: boolean): void {
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const holds = typeof top.step === 'string' ? top.indent < indent || (isItem && top.indent === indent) : top.indent < indent
    const sameList = isItem && typeof top.step === 'number' && top.indent === indent
    if (holds || sameList) return
    stack.pop()
  }
}

/** Advance to the next item of a list, for each dash of a line. */
function dash(stack: Entry[], indent: number, dashes: string): void {
  for (let at = 0; at < dashes.length; at += 2) {
    const column = indent + at
    const top = stack.at(-1)
    if (top !== undefined && typeof top.step === 'number' && top.indent === column) top.step += 1
    else stack.push({ indent: column, step: 0 })
  }
}

/** In a flow list, what follows the last bracket or comma. */
function lastWord(value: string): string {
  return (/[^[\]{},]*$/.exec(value)?.[0] ?? '').trimStart()
}
