/** The traffic of an end in the last hour, as a chart needs it. */

export type Minutes = readonly (number | null)[]

/** The sum of what is known; null: nothing is. */
export function sum(values: Minutes): number | null {
  const known = values.filter((it) => it !== null)
  return known.length === 0 ? null : known.reduce((all, it) => all + it, 0)
}

/** The largest value of several series, at least 1, so that it can be a scale. */
export function largest(...series: Minutes[]): number {
  return Math.max(1, ...series.flatMap((values) => values.map((it) => it ?? 0)))
}

/** The path of an SVG line, a step for each minute: x from 0 to the number of minutes, y from `height` (0) to 0 (`top`). Unknown minutes are gaps. */
export function path(values: Minutes, top: number, height: number): string {
  let text = ''
  let drawing = false
  values.forEach((value, minute) => {
    if (value !== null) {
      const y = (height - (value / top) * height).toFixed(1)
      text += `${drawing ? 'V' : `M${minute} `}${y}H${minute + 1}`
    }
    drawing = value !== null
  })
  return text
}
