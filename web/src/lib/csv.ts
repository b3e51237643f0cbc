/**
 * CSV by RFC 4180, safe for spreadsheets: what would be read as a formula is prefixed by an apostrophe, at the begin of a cell and behind
 * what another spreadsheet takes for the end of one (semicolons and tabs, where the comma is the decimal separator).
 */

const FORMULA = /(^|[;\t\r\n])([^\S\t\r\n]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])/g

function cell(value: string | number | null): string {
  if (value === null) return ''
  const text = typeof value === 'string' ? value.replace(FORMULA, "$1'$2") : String(value)
  return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** The text of a table. */
export function csv(header: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  return [header, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n'
}

/** Have the browser save a text as a file. */
export function save(name: string, text: string, type = 'text/csv'): void {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }))
  const link = Object.assign(document.createElement('a'), { href: url, download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 1_000)
}
