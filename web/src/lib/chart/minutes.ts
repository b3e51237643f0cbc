/**
 * A chart of the bytes in each minute, drawn by uPlot: loaded with the tunnel's view only.
 *
 * Minutes without a report are hatched, never a line. The canvas has the colours of the theme: call `recolour` after a change of theme. uPlot
 * sets styles by the CSS object model, which the page's Content-Security-Policy allows.
 */
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'

import { bytes, minuteOfDay } from '../format'
import { gaps, levels, type Minute } from '../fleet/traffic'

export interface ChartData {
  minutes: readonly Minute[]
  stepSeconds: number
  /** The largest value of the scale, in bytes a minute. */
  top: number
  /** What the x axis shows; seconds since the epoch. */
  from: number
  to: number
}

export interface MinuteChart {
  show(data: ChartData): void
  /** Mark a minute, by its number; null: none. */
  mark(minute: number | null): void
  /** Read the colours of the theme again. */
  recolour(): void
  destroy(): void
}

const HEIGHT_PX = 150
const HATCH_PX = 6
const HEADROOM = 1.05 // so that the largest value is not at the edge of the drawing
const COLOURS = { in: '--color-accent', out: '--color-degraded', text: '--color-soft', line: '--color-line', edge: '--color-edge' } as const
// Powers of two, as sizes are named by them.
const BYTE_STEPS = Array.from({ length: 56 }, (_, power) => 2 ** power)
const TIME_STEPS = [60, 300, 600, 900, 1_200, 1_800]

/** Create a chart in an element. `choose` is called with the instant under the pointer (milliseconds since the epoch), null when it leaves. */
export function createChart(place: HTMLElement, first: ChartData, choose: (at: number | null) => void): MinuteChart {
  let colours = readColours(place)
  let data = first
  const font = `12px ${getComputedStyle(place).fontFamily}`
  const axis = { stroke: () => colours.text, font, grid: { stroke: () => colours.line, width: 1 }, ticks: { stroke: () => colours.line, width: 1, size: 4 } }
  const plot = new uPlot(
    {
      width: Math.max(1, place.clientWidth),
      height: HEIGHT_PX,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true, range: () => [data.from, data.to] }, y: { range: () => [0, data.top * HEADROOM] } },
      axes: [
        { ...axis, space: 60, size: 28, incrs: TIME_STEPS, values: (_, splits) => splits.map((it) => minuteOfDay(it * 1_000)) },
        { ...axis, space: 28, size: 74, incrs: BYTE_STEPS, values: (_, splits) => splits.map(bytes) },
      ],
      series: [
        {},
        { stroke: () => colours.in, width: 2, points: { show: false } },
        { stroke: () => colours.out, width: 2, dash: [4, 3], points: { show: false } },
      ],
      hooks: {
        drawClear: [(u) => hatch(u, data, colours.edge)],
        setCursor: [(u) => choose((u.cursor.left ?? -1) < 0 ? null : u.posToVal(u.cursor.left ?? 0, 'x') * 1_000)],
      },
    },
    aligned(first),
    place,
  )
  const resized = new ResizeObserver(() => place.clientWidth > 0 && plot.setSize({ width: place.clientWidth, height: HEIGHT_PX }))
  resized.observe(place)
  return {
    show(next) {
      data = next
      plot.setData(aligned(next))
    },
    mark(minute) {
      const at = minute === null ? undefined : data.minutes[minute]?.at
      const left = at === undefined ? -10 : plot.valToPos(at / 1_000 + data.stepSeconds / 2, 'x')
      plot.setCursor({ left, top: at === undefined ? -10 : 0 }, false)
    },
    recolour() {
      colours = readColours(place)
      plot.redraw(false)
    },
    destroy() {
      resized.disconnect()
      plot.destroy()
    },
  }
}

/** The theme's colours as a canvas takes them: a property may hold `light-dark()`, so an element resolves it. */
function readColours(place: HTMLElement): Record<keyof typeof COLOURS, string> {
  const probe = place.appendChild(document.createElement('span'))
  const found = Object.entries(COLOURS).map(([name, property]) => {
    probe.style.color = `var(${property})`
    return [name, getComputedStyle(probe).color]
  })
  probe.remove()
  return Object.fromEntries(found) as Record<keyof typeof COLOURS, string>
}

function aligned({ minutes, stepSeconds }: ChartData): uPlot.AlignedData {
  const { x, bytesIn, bytesOut } = levels(minutes, stepSeconds)
  return [x, bytesIn, bytesOut]
}

/** Hatch the times without a report, as the strips of the history do. */
function hatch(u: uPlot, { minutes, stepSeconds, from, to }: ChartData, colour: string): void {
  const { ctx, bbox } = u
  const pitch = HATCH_PX * devicePixelRatio
  ctx.save()
  ctx.beginPath()
  for (const [begin, end] of gaps(minutes, stepSeconds, from, to)) {
    const left = u.valToPos(begin, 'x', true)
    ctx.rect(left, bbox.top, u.valToPos(end, 'x', true) - left, bbox.height)
  }
  ctx.clip()
  ctx.beginPath()
  for (let x = bbox.left - bbox.height; x < bbox.left + bbox.width; x += pitch) {
    ctx.moveTo(x, bbox.top + bbox.height)
    ctx.lineTo(x + bbox.height, bbox.top)
  }
  ctx.strokeStyle = colour
  ctx.globalAlpha = 0.35
  ctx.lineWidth = devicePixelRatio
  ctx.stroke()
  ctx.restore()
}
