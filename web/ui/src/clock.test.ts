import { expect, test } from 'vitest'
import { ServerClock } from './clock'

test('the offset of the quickest message counts', () => {
  let local = 1_000_000
  const clock = new ServerClock(() => local)
  expect(clock.now()).toBe(1_000_000)
  clock.heard(new Date(1_000_000 + 60_000 - 400).toISOString()) // 400 ms on its way
  expect(clock.offset).toBe(59_600)
  local += 5000
  clock.heard(new Date(local + 60_000 - 20).toISOString()) // 20 ms
  expect(clock.offset).toBe(59_980)
  local += 5000
  clock.heard(new Date(local + 60_000 - 900).toISOString())
  expect(clock.offset).toBe(59_980)
})

test('a PC whose clock is set follows within a minute of ticks', () => {
  let local = 0
  const clock = new ServerClock(() => local)
  for (let i = 0; i < 12; i++) clock.heard(new Date(local + 5000).toISOString())
  local += 3_600_000
  const server = (at: number) => at - 3_600_000 + 5000
  for (let i = 0; i < 12; i++) clock.heard(new Date(server(local)).toISOString())
  expect(clock.now()).toBe(server(local))
})

test('what is no instant is let pass', () => {
  const clock = new ServerClock(() => 7)
  clock.heard('presto')
  expect(clock.now()).toBe(7)
})
