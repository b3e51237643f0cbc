// node check-asyncapi.mjs FILE: prints what AsyncAPI's own parser finds in a document, as JSON; empty: nothing.
import { readFile } from 'node:fs/promises'
import { Parser } from '@asyncapi/parser'

const text = await readFile(process.argv[2], 'utf8')
const { document, diagnostics } = await new Parser().parse(text)
const found = diagnostics.filter((it) => it.severity <= 1).map((it) => `${it.path.join('/')}: ${it.message}`)
console.log(JSON.stringify({ accepted: document !== undefined, found }))
