import { describe, expect, test } from 'vitest'
import { clockSeconds, clockTime, countdown, day, duration, fullDay, fullMoment, instantOf, moment, phone, phonesIn, waited, wallClock } from './format'

test.each([
  [0, '0:00'], [999, '0:00'], [1000, '0:01'], [59_999, '0:59'], [60_000, '1:00'], [605_000, '10:05'], [3_599_999, '59:59'], [3_600_000, '1:00:00'],
  [90_061_000, '25:01:01'], [-5000, '0:00'], [Number.NaN, '0:00'], [Infinity, '0:00'],
])('%d ms last %s', (ms, text) => expect(duration(ms)).toBe(text))

test.each([[0, '0:00'], [1, '0:01'], [1000, '0:01'], [1001, '0:02'], [60_000, '1:00'], [-1, '0:00']])('%d ms left are %s', (ms, text) =>
  expect(countdown(ms)).toBe(text))

describe('Rome’s time, wherever the browser is', () => {
  test('winter and summer', () => {
    expect(clockTime('2026-01-15T08:41:03Z', 'it')).toBe('09:41')
    expect(clockSeconds('2026-07-15T07:41:03Z', 'it')).toBe('09:41:03')
    expect(clockTime('2026-01-14T23:00:00Z', 'it')).toBe('00:00')
  })

  test('the clocks’ change: 29 March and 25 October 2026', () => {
    expect(clockTime('2026-03-29T00:59:59Z', 'it')).toBe('01:59')
    expect(clockTime('2026-03-29T01:00:00Z', 'it')).toBe('03:00')
    expect(clockTime('2026-10-25T00:30:00Z', 'it')).toBe('02:30')
    expect(clockTime('2026-10-25T01:30:00Z', 'it')).toBe('02:30')
  })

  test('a day begins at Rome’s midnight', () => {
    expect(day('2026-03-01T22:59:00Z')).toBe('2026-03-01')
    expect(day('2026-03-01T23:00:00Z')).toBe('2026-03-02')
    expect(day('2026-12-31T23:00:00Z')).toBe('2027-01-01')
  })

  test.each([
    ['2026-03-03T08:41:00Z', 'oggi 09:41', 'today 09:41'],
    ['2026-03-02T22:59:00Z', 'ieri 23:59', 'yesterday 23:59'],
    ['2026-03-01T10:00:00Z', 'dom 1 mar 11:00', 'Sun 1 Mar 11:00'],
    ['2025-12-24T10:00:00Z', '24 dic 2025 11:00', '24 Dec 2025 11:00'],
  ])('%s', (at, it, en) => {
    const now = Date.parse('2026-03-03T12:00:00Z')
    expect(moment(at, now, 'it')).toBe(it)
    expect(moment(at, now, 'en')).toBe(en)
  })

  test('yesterday is by calendar when a day has 23 hours', () => {
    const now = Date.parse('2026-03-29T22:30:00Z') // Monday 30, 00:30
    expect(moment('2026-03-28T23:30:00Z', now, 'it')).toBe('ieri 00:30') // Sunday 29, 23 h before
    expect(moment('2026-03-28T22:30:00Z', now, 'it')).toBe('sab 28 mar 23:30')
  })

  test('no instant, no text', () => {
    expect(moment(null, 0, 'it')).toBe('')
    expect(moment('', 0, 'it')).toBe('')
    expect(fullMoment(undefined, 'it')).toBe('')
  })

  test('in full', () => expect(fullMoment('2026-03-03T08:41:03Z', 'it')).toBe('martedì 3 marzo 2026, 09:41:03'))
  test('a day in full', () => expect(fullDay('2026-03-03T08:41:03Z', 'it')).toBe('3 marzo 2026'))
})

test.each([
  ['+390551234567', '+39 055 1234567'], ['+39061234567', '+39 06 1234567'], ['+390212345678', '+39 02 12345678'], ['+390587123456', '+39 0587 123456'],
  ['+393471234567', '+39 347 123 4567'], ['+39347123456', '+39 347 123 456'], ['800123456', '800 123 456'], ['112', '112'], ['+442071234567', '+442071234567'], ['', ''],
])('%s is written %s', (number, text) => expect(phone(number)).toBe(text))

test.each([
  ['Chiamata da +390575123456', 'Chiamata da +39 0575 123456'], ['Chiamata da numero nascosto', 'Chiamata da numero nascosto'], ['da +390551234567 a +442071234567.', 'da +39 055 1234567 a +442071234567.'], ['codice 2026-1, +1', 'codice 2026-1, +1'], ['', ''],
])('«%s» reads «%s»', (text, shown) => expect(phonesIn(text)).toBe(shown))

test.each([
  ['answered', '2026-03-02T08:00:05Z', '2026-03-02T08:00:30Z', '2026-03-02T08:05:00Z', '0:30'], ['abandoned', '2026-03-02T08:00:05Z', null, '2026-03-02T08:01:00Z', '1:00'],
  ['still waiting', '2026-03-02T08:00:05Z', null, null, '–'], ['a message, never queued', null, null, '2026-03-02T08:00:19Z', '–'],
])('%s', (_, tq, tc, te, shown) => expect(waited({ t0: '2026-03-02T08:00:00Z', tq, tc, te })).toBe(shown))

test.each([
  ['2026-03-02T09:41', '2026-03-02T08:41:00.000Z'], ['2026-07-02T00:00', '2026-07-01T22:00:00.000Z'], ['2026-01-01T00:00', '2025-12-31T23:00:00.000Z'],
  ['2026-03-29T01:59', '2026-03-29T00:59:00.000Z'], ['2026-03-29T03:00', '2026-03-29T01:00:00.000Z'], ['2026-10-25T01:30', '2026-10-24T23:30:00.000Z'], ['2026-10-25T03:00', '2026-10-25T02:00:00.000Z'],
])('Rome’s clock shows %s at %s', (wall, at) => {
  expect(instantOf(wall)).toBe(at)
  expect(wallClock(at)).toBe(wall)
})
test('a time that Rome’s clock leaps over, and what is no time', () => {
  expect(instantOf('2026-03-29T02:30')).toBe('2026-03-29T01:30:00.000Z')
  for (const wall of ['', '2026-03-02', '2026-13-02T09:41', '12026-03-02T09:41', 'x']) expect(instantOf(wall)).toBeNull()
})
