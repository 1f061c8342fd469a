// Commands carry a key, so that one whose answer was lost is not done twice.

import { afterEach, expect, test, vi } from 'vitest'
import { api } from './http'

afterEach(() => vi.unstubAllGlobals())

test('a command keeps its key until it has an answer', async () => {
  const keys: (string | null)[] = []
  const answers = [() => Promise.reject(new TypeError('no network')), () => new Response('{}', { status: 503 }), () => new Response('{}', { status: 200 }), () => new Response('{}', { status: 409 })]
  vi.stubGlobal('fetch', (_: string, init: RequestInit) => {
    keys.push(new Headers(init.headers).get('Idempotency-Key'))
    return Promise.resolve((answers.shift() ?? (() => new Response('{}', { status: 200 })))())
  })
  await expect(api.note('2026-1', 'Richiamato')).rejects.toMatchObject({ status: 0 })
  await expect(api.note('2026-1', 'Richiamato')).rejects.toMatchObject({ status: 503 })
  await api.note('2026-1', 'Richiamato')
  expect(new Set(keys)).toHaveLength(1)
  expect(keys[0]).toMatch(/^[0-9a-f]{32}$/)
  await expect(api.note('2026-1', 'Richiamato')).rejects.toMatchObject({ status: 409 }) // written on purpose once more
  await api.note('2026-1', 'Altro')
  expect(new Set(keys)).toHaveLength(3)
  await api.me()
  expect(keys.at(-1)).toBeNull()
})

test('a command that came after another one is a new one', async () => {
  const keys: (string | null)[] = []
  const answers = [() => Promise.reject(new TypeError('no network'))]
  vi.stubGlobal('fetch', (_: string, init: RequestInit) => {
    keys.push(new Headers(init.headers).get('Idempotency-Key'))
    return Promise.resolve((answers.shift() ?? (() => new Response('{}', { status: 200 })))())
  })
  await expect(api.declare('anna', 'available', '')).rejects.toMatchObject({ status: 0 })
  await api.declare('anna', 'break', 'Pausa')
  await api.declare('anna', 'available', '')
  expect(new Set(keys)).toHaveLength(3)
})
