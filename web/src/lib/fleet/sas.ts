/** The SAs of a tunnel with both ends in one row: the IKE_SA, then each CHILD_SA, which the ends know by the same two SPIs. */
import type { Schemas } from '../api/client'
import { moment } from '../format'
import type { TunnelStatus } from './rows'

export type ChildSa = Schemas['ChildSaStatus']

/** Why an end has no such SA: it says so, its report is older than the SA, it has not reported the tunnel, or its agent is silent. */
export type Absence = 'absent' | 'not yet' | 'no report' | 'silent'

export interface ChildRow {
  /** The name of the child in its tunnel. */
  child: string
  /** What identifies the row: the SPIs. */
  key: string
  /** By peer. */
  ends: Record<string, ChildSa | Absence>
}

export interface Reports {
  /** The status of each end that has reported. */
  ends: readonly [string, TunnelStatus][]
  /** The peers of the tunnel: those without a status have not reported it. */
  peers: readonly string[]
  silent: readonly string[]
  /** When each end reported; milliseconds since the epoch. */
  reportedAt: ReadonlyMap<string, number>
}

/** The rows of the CHILD_SAs, by the names of the children, the newest SA of each first. */
export function childRows(reports: Reports): ChildRow[] {
  const rows: ChildRow[] = []
  for (const [peer, status] of reports.ends) {
    for (const sa of status.link?.children ?? []) {
      const known = rows.find((row) => !(peer in row.ends) && Object.values(row.ends).some((other) => isSa(other) && isSame(other, sa)))
      if (known !== undefined) known.ends[peer] = sa
      else rows.push({ child: sa.child ?? '', key: `${peer} ${sa.spi_in} ${sa.spi_out}`, ends: { [peer]: sa } })
    }
  }
  for (const row of rows) for (const peer of reports.peers) row.ends[peer] ??= absence(peer, began(row), reports)
  return rows.sort((a, b) => (a.child < b.child ? -1 : a.child > b.child ? 1 : began(b) - began(a)))
}

/** Whether an end has the SA of a row. */
export function isSa(end: ChildSa | Absence | undefined): end is ChildSa {
  return typeof end === 'object'
}

/** The ends count one SA's directions the other way round. */
function isSame(one: ChildSa, other: ChildSa): boolean {
  return one.spi_in === other.spi_out && one.spi_out === other.spi_in
}

function began(row: ChildRow): number {
  return Math.max(0, ...Object.values(row.ends).flatMap((end) => (isSa(end) ? (moment(end.established_at) ?? []) : [])))
}

function absence(peer: string, since: number, { ends, silent, reportedAt }: Reports): Absence {
  if (!ends.some(([name]) => name === peer)) return 'no report'
  if (silent.includes(peer)) return 'silent'
  return (reportedAt.get(peer) ?? 0) < since ? 'not yet' : 'absent'
}
