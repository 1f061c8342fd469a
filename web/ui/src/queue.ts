// Who waits, sorted out for screens: those on the line, and those who have hung up
// and are to be rung back, who stand in the same queue.

import type { Seat, Topic, Waiting } from './contract'
import { nameOf } from './contract'

/** The queue's order. */
export function inOrder(waiting: readonly Waiting[]): Waiting[] {
  return [...waiting].sort((a, b) => a.urgency - b.urgency || Date.parse(a.t0) - Date.parse(b.t0))
}

/** On the line with us. */
export const onLine = (waiting: readonly Waiting[]): Waiting[] => waiting.filter((x) => !x.callback)

/** To be rung back now: their time has come. */
export const due = (waiting: readonly Waiting[], now: number): Waiting[] =>
  waiting.filter((x) => x.callback && (!x.next_at || Date.parse(x.next_at) <= now))

/** When the first of those on the line rang; 0 when nobody is. */
export const longestSince = (waiting: readonly Waiting[]): number => {
  const all = onLine(waiting)
  return all.length ? Math.min(...all.map((x) => Date.parse(x.t0))) : 0
}

/** Could be given a caller this instant. */
export const isFree = (s: Seat): boolean => s.declared === 'available' && s.doing === 'idle' && s.can_ring

/** Takes calls, now or after the present one. */
export const isPresent = (s: Seat): boolean => s.declared === 'available' && s.can_ring

export interface Queue {
  id: number // 0: no topic
  name: string
  waiting: Waiting[] // on the line, in the queue's order
  longest: number // since when the first waits, in ms; 0: nobody
  expected: number | null // seconds the last of them still waits, about
  due: number
  free: number
  present: number
}

/** The queues with who waits in them, those without anybody included. */
export function queues(topics: readonly Topic[], waiting: readonly Waiting[], seats: readonly Seat[], now: number, none: string): Queue[] {
  const of = (id: number, name: string): Queue => {
    const mine = waiting.filter((x) => (x.topic?.id ?? 0) === id)
    const live = inOrder(onLine(mine))
    const expected = live.flatMap((x) => x.expected ?? [])
    const skilled = id ? seats.filter((s) => s.topics.includes(id)) : seats
    return {
      id, name, waiting: live, longest: longestSince(live), expected: expected.length ? Math.max(...expected) : null, due: due(mine, now).length,
      free: skilled.filter(isFree).length, present: skilled.filter(isPresent).length,
    }
  }
  const known = topics.map((t) => of(t.id, t.name))
  const others = new Map(waiting.filter((x) => !topics.some((t) => t.id === x.topic?.id)).map((x) => [x.topic?.id ?? 0, nameOf(x.topic) || none]))
  return [...known, ...[...others].map(([id, name]) => of(id, name))]
}

/** A wait is told in whole minutes: it is an estimate. */
export const wholeMinutes = (seconds: number): number => Math.max(1, Math.round(seconds / 60))
