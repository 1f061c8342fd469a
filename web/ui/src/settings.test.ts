import { describe, expect, test } from 'vitest'
import { blank, inside, kindOf, lasting, reach, said, standing, tidyClock, withoutRow } from './settings'
import { words } from './words/servizi'
import type { Fault, ServiceVersion } from './contract'

test.each([
  ['8', '08:00'], ['08', '08:00'], ['830', '08:30'], ['0830', '08:30'], ['8:30', '08:30'], ['8.30', '08:30'], [' 18,00 ', '18:00'], ['24', '24:00'], ['99', '99:00'],
  ['', ''], ['8:3', '8:3'], ['otto', 'otto'], ['08:30:00', '08:30:00'], ['-8', '-8'],
])('«%s» is kept as «%s»', (typed, kept) => expect(tidyClock(typed)).toBe(kept))

const period = (...windows: [string, string][]) => ({ first: '2026-06-13', last: '2026-06-14', note: '', windows: windows.map(([opens, closes]) => ({ opens, closes })) })
test('the kinds of an exceptional day', () => {
  expect(kindOf(period())).toBe('closed')
  expect(kindOf(period(['00:00', '24:00']))).toBe('whole')
  expect(kindOf(period(['00:00', '23:59']))).toBe('windows')
  expect(kindOf(period(['00:00', '24:00'], ['', '']))).toBe('windows')
})

test('what is inside a field', () => {
  expect(inside('hours.week[1].opens', 'hours.week[1]')).toBe(true)
  expect(inside('hours.week[1]', 'hours.week[1]')).toBe(true)
  expect(inside('hours.week[10]', 'hours.week[1]')).toBe(false)
  expect(inside('name_x', 'name')).toBe(false)
})

describe('the way from a fault to a field', () => {
  const fields = ['name', 'numbers', 'numbers[0]', 'hours.week[0].opens', 'hours.week[0].closes', 'hours.exceptional', 'menu', 'menu[0].key']
  test.each([
    ['name', 'name'], ['hours.week[0].closes', 'hours.week[0].closes'], ['hours.week[0]', 'hours.week[0].opens'], ['hours.week[0].weekday', 'hours.week[0].opens'],
    ['hours', 'hours.week[0].opens'], ['numbers[7]', 'numbers'], ['hours.exceptional[3].windows[1].opens', 'hours.exceptional'], ['valid_from', undefined], ['', undefined], ['[', undefined], ['a b', undefined],
  ])('%s leads to %s', (fault, field) => expect(reach(fields, fault)).toBe(field))
})

test('a row that goes takes its faults along, and those below move up', () => {
  const fault = (field: string): Fault => ({ field, place: '', reason: field, warning: false })
  const left = withoutRow(['name', 'hours.week', 'hours.week[0]', 'hours.week[1].opens', 'hours.week[2].closes', 'hours.week[11]', 'menu[2].key'].map(fault), 'hours.week', 1)
  expect(left.map((f) => f.field)).toEqual(['name', 'hours.week', 'hours.week[0]', 'hours.week[1].closes', 'hours.week[10]', 'menu[2].key'])
  expect(left[3]!.reason).toBe('hours.week[2].closes')
})

test('how versions stand', () => {
  const version = (n: number, valid_from: string | null, more: Partial<ServiceVersion> = {}): ServiceVersion => ({
    version: n, state: 'published', revision: 1, in_force: false, valid_from, settings: blank(), made_by: null, made_at: '2026-01-01T00:00:00Z', published_by: null, published_at: null, ...more,
  })
  const all = [
    version(6, null, { state: 'draft' }), version(5, '2026-05-01T00:00:00Z'), version(4, '2026-05-01T00:00:00Z'), version(3, '2026-04-01T00:00:00Z'),
    version(2, '2026-03-01T00:00:00Z', { in_force: true }), version(1, '2026-02-01T00:00:00Z'),
  ]
  expect(all.map((v) => standing(v, all, Date.parse('2026-03-15T00:00:00Z')))).toEqual(['draft', 'coming', 'replaced', 'coming', 'force', 'past'])
})

test.each([[0, '0 s'], [30, '30 s'], [90, '1 min 30 s'], [900, '15 min'], [7200, '2 h'], [3661, '1 h 1 min 1 s']])('%d seconds are %s', (s, text) => expect(lasting(s)).toBe(text))

test('settings in words', () => {
  const s = blank()
  s.name = 'Assistenza'
  s.numbers = ['800123456']
  s.hours.week = [1, 2, 3, 4, 5].flatMap((weekday) => [{ weekday, opens: '14:00', closes: '18:00' }, { weekday, opens: '09:00', closes: '13:00' }])
  s.hours.week.push({ weekday: 6, opens: '08:00', closes: '14:00' })
  s.hours.patron = '06-24'
  s.hours.exceptional = [{ ...period(['00:00', '24:00']), note: 'Elezioni' }, { first: '2026-12-24', last: '2026-12-24', windows: [], note: '' }]
  s.menu = [{ key: '1', action: 'topic', topic: 'carta', default: true }, { key: '5', action: 'state', topic: '', default: false }, { key: '6', action: 'topic', topic: 'via', default: false }]
  const lines = Object.fromEntries(said(s, [{ id: 1, code: 'carta', name: 'Smart card' }], words.it, 'it').map((x) => [x.key, x.lines]))
  expect(lines).toMatchObject({
    numbers: ['800 123 456'], week: ['lun–ven 09:00–13:00, 14:00–18:00', 'sab 08:00–14:00', 'dom chiuso'], patron: ['24 giugno'],
    exceptional: ['13/06/2026–14/06/2026: 24 ore (Elezioni)', '24/12/2026: chiuso'], menu: ['1 → Smart card (predefinita)', '5 → stato di una richiesta', '6 → via'],
    max_wait: ['15 min'], at_closing: ['viene servito'], callback_offered: ['sì'],
  })
  expect(Object.fromEntries(said(blank(), [], words.en, 'en').map((x) => [x.key, x.lines]))).toMatchObject({ name: ['–'], menu: ['–'], week: ['Mon–Sun closed'], patron: ['–'] })
})
