/** When the fleet is drawn: at once after a quiet time, and otherwise so that drawing takes a small part of the time. */

const PAUSE_MS = 50 // between two drawings, at least
const PAUSE_PER_MS = 5 // of drawing: it takes a sixth of the time at most, however large the fleet and slow the machine

export class DrawingPace {
  #next = 0

  /** Milliseconds until the next drawing. */
  wait(now: number): number {
    return Math.max(0, this.#next - now)
  }

  /** A drawing took from one moment to another. */
  drawn(began: number, ended: number): void {
    this.#next = ended + Math.max(PAUSE_MS, PAUSE_PER_MS * (ended - began))
  }
}
