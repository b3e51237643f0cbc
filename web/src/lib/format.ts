/** Times, sizes and words as people read them. */

const UNITS: readonly [string, number][] = [
  ['w', 604_800],
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
]

/** A duration in seconds by its largest unit: `4 s`, `3 h`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  for (const [unit, size] of UNITS) if (whole >= size) return `${Math.floor(whole / size)} ${unit}`
  return '0 s'
}

/** How long ago a moment was; both in milliseconds since the epoch. */
export function ago(moment: number, now: number): string {
  return `${duration((now - moment) / 1_000)} ago`
}

/** Milliseconds since the epoch of a time in a reply; null: there is none. */
export function moment(text: string | null | undefined): number | null {
  const found = text ? Date.parse(text) : Number.NaN
  return Number.isNaN(found) ? null : found
}

/** A moment in the browser's own time zone, to the second. */
export function timestamp(milliseconds: number): string {
  const date = new Date(milliseconds)
  const two = (value: number): string => String(value).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

/** A number of bytes by powers of 1,024: `1.5 MiB`. */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let [value, unit] = [count, 0]
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** A rate of bytes a second as networks name it, in bits by powers of 1,000: `1.2 Mbit/s`. */
export function rate(bytesPerSecond: number): string {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s']
  let [value, unit] = [bytesPerSecond * 8, 0]
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000
    unit += 1
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** The time of day of a moment in the browser's own time zone: `14:05`. */
export function minuteOfDay(milliseconds: number): string {
  return timestamp(milliseconds).slice(11, 16)
}

/** A count with its noun: `1 tunnel`, `2 tunnels`. */
export function counted(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`
}

/** The words of a text, which spaces or commas separate. */
export function words(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean)
}
