import { expect, test } from 'vitest'
import { midnight } from './format'
import { due, inOrder, longestSince, onLine, queues, wholeMinutes } from './queue'
import { seat } from './testing/samples'
import type { Waiting } from './contract'

const now = Date.parse('2026-03-02T09:00:00Z')
const software = { id: 1, code: 'software', name: 'Software' }
const carta = { id: 3, code: 'carta', name: 'Carta sanitaria' }
const waits = (id: string, ago: number, more: Partial<Waiting> = {}): Waiting => ({
  contact_id: id, caller: '+390551234567', name: '', topic: software, urgency: 2, t0: new Date(now - ago * 1000).toISOString(), joined_at: '', state: 'waiting',
  callback: false, next_at: null, position: 1, expected: null, ...more,
})

test('the queue is by urgency, then by the first call', () => {
  expect(inOrder([waits('late', 10), waits('early', 90), waits('blocked', 5, { urgency: 1 })]).map((x) => x.contact_id)).toEqual(['blocked', 'early', 'late'])
})

test('who is to be rung back is not on the line: their wait is no alarm', () => {
  const all = [waits('live', 60), waits('now', 4000, { callback: true, next_at: new Date(now).toISOString() }), waits('later', 3000, { callback: true, next_at: new Date(now + 1).toISOString() })]
  expect(onLine(all).map((x) => x.contact_id)).toEqual(['live'])
  expect(due(all, now).map((x) => x.contact_id)).toEqual(['now'])
  expect(longestSince(all)).toBe(now - 60_000)
  expect(longestSince(all.slice(1))).toBe(0)
})

test('a queue counts the operators who answer it, and hears of the last in line', () => {
  const seats = [
    seat({ operator: 'a', topics: [1] }), seat({ operator: 'b', topics: [1], doing: 'talking' }), seat({ operator: 'c', topics: [1], can_ring: false }),
    seat({ operator: 'd', topics: [1], declared: 'break' }), seat({ operator: 'e', topics: [3] }),
  ]
  const [first, second, other] = queues([software, carta], [waits('x', 60, { expected: 50 }), waits('y', 30, { expected: 170 }), waits('z', 5, { topic: null })], seats, now, 'Senza argomento')
  expect(first).toMatchObject({ name: 'Software', longest: now - 60_000, expected: 170, free: 1, present: 2, due: 0 })
  expect(second).toMatchObject({ waiting: [], longest: 0, expected: null, free: 1, present: 1 })
  expect(other).toMatchObject({ id: 0, name: 'Senza argomento', free: 2, present: 3 }) // anybody
})

test('an estimate is told in whole minutes, never none', () => {
  expect([0, 29, 89, 91, 170].map(wholeMinutes)).toEqual([1, 1, 1, 2, 3])
})

test.each([
  ['2026-03-02', 0, '2026-03-01T23:00:00.000Z'],
  ['2026-07-01', 0, '2026-06-30T22:00:00.000Z'],
  ['2026-03-29', 0, '2026-03-28T23:00:00.000Z'], // summer time begins at two
  ['2026-03-29', 1, '2026-03-29T22:00:00.000Z'],
  ['2026-10-25', 0, '2026-10-24T22:00:00.000Z'],
  ['2026-10-25', 1, '2026-10-25T23:00:00.000Z'],
  ['2026-12-31', 1, '2026-12-31T23:00:00.000Z'],
  ['2026-03-01', -1, '2026-02-27T23:00:00.000Z'],
])('the day %s begins, %i later', (date, later, at) => expect(midnight(date, later)).toBe(at))
