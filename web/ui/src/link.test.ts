import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Link, OFFLINE_AFTER, RETRY_FIRST, RETRY_MOST, SIGNED_OUT, SILENCE, type Wire } from './link'
import type { Model } from './reducer'
import type { Event, FromServer, ToServer } from './contract'
import { state } from './testing/samples'

class FakeWire implements Wire {
  sent: ToServer[] = []
  closed = false
  onopen: Wire['onopen'] = null
  onmessage: Wire['onmessage'] = null
  onclose: Wire['onclose'] = null
  send(data: string) {
    this.sent.push(JSON.parse(data) as ToServer)
  }
  close() {
    this.closed = true
  }
  open() {
    this.onopen?.({})
  }
  say(m: FromServer | string) {
    this.onmessage?.({ data: typeof m === 'string' ? m : JSON.stringify(m) })
  }
  end(code = 1006) {
    this.onclose?.({ code })
  }
}

let wires: FakeWire[]
let lights: string[]
let models: Model[]
let events: (Event | null)[]
let stale: boolean[]
let alarms: string[]
let signedOut: number
let link: Link
const wire = () => wires.at(-1) as FakeWire

beforeEach(() => {
  vi.useFakeTimers()
  wires = []
  lights = []
  models = []
  events = []
  stale = []
  alarms = []
  signedOut = 0
  link = new Link({
    open: () => {
      wires.push(new FakeWire())
      return wire()
    },
    changed: (m, e) => {
      models.push(m)
      events.push(e)
    },
    light: (l) => lights.push(l),
    heard: () => undefined,
    stale: (s) => stale.push(s),
    alarm: (a) => alarms.push(a),
    signedOut: () => signedOut++,
    random: () => 1, // the longest wait
  })
})
afterEach(() => {
  link.stop()
  vi.useRealTimers()
})

const snapshot = (seq: number): FromServer => ({ type: 'snapshot', epoch: 'e', seq, state: state() })
const news = (seq: number, prev: number): FromServer => ({ type: 'event', seq, prev, kind: 'messages', data: { new: seq } })
function connect(seq = 10) {
  link.start()
  wire().open()
  wire().say(snapshot(seq))
}

describe('the first connection', () => {
  test('greets without a past and shows the snapshot', () => {
    connect()
    expect(wire().sent).toEqual([{ type: 'hello', epoch: '', seq: 0 }])
    expect(lights).toEqual(['reconnecting', 'connected'])
    expect(models.at(-1)?.seq).toBe(10)
    expect(events).toEqual([null])
  })

  test('a gap sends for a snapshot', () => {
    connect()
    wire().say(news(14, 13))
    expect(wire().sent.at(-1)).toEqual({ type: 'snapshot' })
  })

  test('what is not JSON is let pass', () => {
    connect()
    expect(() => wire().say('<html>')).not.toThrow()
    expect(lights.at(-1)).toBe('connected')
  })

  test('nothing is sent before the server has answered', () => {
    link.start()
    expect(link.send({ type: 'painted', offer: 'o' })).toBe(false)
    wire().open()
    expect(link.send({ type: 'painted', offer: 'o' })).toBe(false)
    wire().say(snapshot(1))
    expect(link.send({ type: 'painted', offer: 'o' })).toBe(true)
  })
})

describe('a lost connection', () => {
  test('comes back and resumes where it stood', () => {
    connect()
    wire().say(news(12, 10))
    wire().end()
    expect(lights.at(-1)).toBe('reconnecting')
    vi.advanceTimersByTime(RETRY_FIRST)
    expect(wires).toHaveLength(2)
    wire().open()
    expect(wire().sent).toEqual([{ type: 'hello', epoch: 'e', seq: 12 }])
    wire().say({ type: 'resumed', epoch: 'e', seq: 12 })
    wire().say(news(13, 12))
    expect(lights.at(-1)).toBe('connected')
    expect(wire().sent).toHaveLength(1)
    expect(models.at(-1)).toMatchObject({ seq: 13, behind: false })
  })

  test('waits longer each time, and never more than the limit', () => {
    link.start()
    const waits: number[] = []
    for (let i = 0; i < 8; i++) {
      const before = wires.length
      wire().end()
      let waited = 0
      while (wires.length === before) {
        vi.advanceTimersByTime(100)
        waited += 100
      }
      waits.push(waited)
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, RETRY_MOST, RETRY_MOST, RETRY_MOST])
  })

  test('the waits are drawn: tabs do not come back together', () => {
    const drawn = new Link({ ...link['o'], random: () => 0.25 })
    drawn.start()
    wire().end()
    vi.advanceTimersByTime(RETRY_FIRST / 4)
    expect(wires).toHaveLength(2)
    drawn.stop()
  })

  test('an answer makes the next wait short again', () => {
    connect()
    for (let i = 0; i < 5; i++) {
      wire().end()
      vi.advanceTimersByTime(RETRY_MOST)
    }
    wire().open()
    wire().say(snapshot(20))
    wire().end()
    const before = wires.length
    vi.advanceTimersByTime(RETRY_FIRST)
    expect(wires).toHaveLength(before + 1)
  })

  test('the light says so when it lasts', () => {
    connect()
    wire().end()
    for (let t = 0; t < OFFLINE_AFTER; t += 500) {
      if (!wire().closed) wire().end()
      vi.advanceTimersByTime(500)
    }
    expect(lights.at(-1)).toBe('offline')
    if (wire().closed) vi.advanceTimersByTime(RETRY_MOST)
    wire().open()
    wire().say(snapshot(30))
    expect(lights.at(-1)).toBe('connected')
  })

  test('a nudge does not wait for the timer', () => {
    connect()
    wire().end()
    link.nudge()
    expect(wires).toHaveLength(2)
    link.nudge()
    expect(wires).toHaveLength(2) // one is on its way
  })
})

describe('silence', () => {
  test('without ticks the light turns and the wire is changed', () => {
    connect()
    vi.advanceTimersByTime(SILENCE)
    expect(lights.at(-1)).toBe('reconnecting')
    expect(wire().closed).toBe(true)
    vi.advanceTimersByTime(RETRY_FIRST)
    expect(wires).toHaveLength(2)
  })

  test('ticks keep it', () => {
    connect()
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(5000)
      wire().say({ type: 'tick', at: '2026-03-02T08:30:00Z' })
    }
    expect(lights.at(-1)).toBe('connected')
    expect(wires).toHaveLength(1)
  })

  test('a wire that never opens is given up', () => {
    link.start()
    vi.advanceTimersByTime(SILENCE + RETRY_FIRST)
    expect(wires).toHaveLength(2)
  })

  test('what an abandoned wire still says is not heard', () => {
    connect()
    const old = wire()
    const say = old.onmessage
    wire().end()
    vi.advanceTimersByTime(RETRY_FIRST)
    say?.({ data: JSON.stringify(news(11, 10)) })
    expect(models.at(-1)?.seq).toBe(10)
  })
})

test('a server without its database says so with the tick, and when it is back', () => {
  connect()
  wire().say({ type: 'tick', at: '2026-03-02T08:30:00Z', away: true })
  expect(stale.at(-1)).toBe(true)
  wire().say({ type: 'tick', at: '2026-03-02T08:30:05Z' })
  expect(stale.at(-1)).toBe(false)
})

test('an alarm of the installation comes and goes with the tick', () => {
  connect()
  wire().say({ type: 'tick', at: '2026-03-02T08:30:00Z', alarm: 'Il disco è quasi pieno.' })
  expect(alarms.at(-1)).toBe('Il disco è quasi pieno.')
  wire().say({ type: 'tick', at: '2026-03-02T08:30:05Z' })
  expect(alarms.at(-1)).toBe('')
})

test('a session that is over is not tried again', () => {
  connect()
  wire().end(SIGNED_OUT)
  vi.advanceTimersByTime(60_000)
  expect(signedOut).toBe(1)
  expect(wires).toHaveLength(1)
})
