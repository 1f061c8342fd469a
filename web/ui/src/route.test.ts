import { expect, test } from 'vitest'
import { href, parse, type Route } from './route.svelte'

test.each<[string, Route]>([
  ['', { page: 'station' }],
  ['#/', { page: 'station' }],
  ['#/ticket', { page: 'tickets', filter: 'mine', q: '' }],
  ['#/ticket?f=all&q=rossi%20%26%20figli', { page: 'tickets', filter: 'all', q: 'rossi & figli' }],
  ['#/ticket?f=nonsense', { page: 'tickets', filter: 'mine', q: '' }],
  ['#/ticket/2026-123', { page: 'ticket', number: '2026-123' }],
  ['#/ticket/%E0', { page: 'ticket', number: '%E0' }],
  ['#/segreteria?f=all', { page: 'messages', all: true }],
  ['#/richiamare', { page: 'ringbacks' }],
  ['#/sala', { page: 'operators' }],
  ['#/operatori', { page: 'operators' }],
  ['#/altro', { page: 'unknown' }],
])('%s', (hash, route) => expect(parse(hash)).toEqual(route))

test.each<Route>([
  { page: 'station' }, { page: 'tickets', filter: 'open', q: 'àèì?#&' }, { page: 'ticket', number: '2026-7' }, { page: 'messages', all: false },
  { page: 'messages', all: true }, { page: 'ringbacks' }, { page: 'operators' }, { page: 'search', q: '' }, { page: 'search', q: '+39 055 àèì?#&' },
])('$page comes back from its address', (route) => expect(parse(href(route))).toEqual(route))
