import { describe, expect, test } from 'vitest'
import { nothing, phase, receive, withSeat, type Model, type Step } from './reducer'
import type { Event, FromServer } from './contract'
import { pop, seat, state, ticket } from './testing/samples'

const at = (seq: number, more = {}): Model => ({ epoch: 'e', seq, state: state(more), behind: false })
const event = (seq: number, prev: number, e: Event): FromServer => ({ type: 'event', seq, prev, ...e })
const count = (n: number): Event => ({ kind: 'messages', data: { new: n } })

describe('what arrives in order', () => {
  test('a snapshot is where everything starts', () => {
    const { model, ask } = receive(nothing, { type: 'snapshot', epoch: 'e', seq: 41, state: state({ messages_new: 2 }) })
    expect(ask).toBe(false)
    expect(model).toMatchObject({ epoch: 'e', seq: 41, behind: false })
    expect(model.state?.messages_new).toBe(2)
  })

  test('an event whose prev is the last seq is applied, also across numbers sent to others', () => {
    const { model, ask } = receive(at(41), event(57, 41, count(3)))
    expect(ask).toBe(false)
    expect(model.seq).toBe(57)
    expect(model.state?.messages_new).toBe(3)
  })

  test('ticks and unknown messages change nothing', () => {
    const model = at(41)
    expect(receive(model, { type: 'tick', at: '2026-03-02T08:30:05Z' }).model).toBe(model)
    expect(receive(model, { type: 'weather' } as unknown as FromServer)).toEqual({ model, ask: false })
    expect(receive(model, event(42, 41, { kind: 'weather', data: {} } as unknown as Event)).model.state).toBe(model.state)
  })
})

describe('what is missed', () => {
  test('a gap asks for a snapshot, and what did arrive is shown at once', () => {
    const { model, ask } = receive(at(41), event(44, 43, { kind: 'call.offered', data: pop() }))
    expect(ask).toBe(true)
    expect(model.behind).toBe(true)
    expect(model.seq).toBe(44)
    expect(phase(model.state)).toBe('ringing')
  })

  test('only one snapshot is asked for, however many gaps follow', () => {
    let step: Step = receive(at(41), event(44, 43, count(1)))
    step = receive(step.model, event(49, 47, count(2)))
    expect(step.ask).toBe(false)
    step = receive(step.model, { type: 'snapshot', epoch: 'e', seq: 50, state: state({ messages_new: 9 }) })
    expect(step.model).toMatchObject({ seq: 50, behind: false })
    step = receive(step.model, event(52, 51, count(1)))
    expect(step.ask).toBe(true)
  })

  test('an event before any snapshot asks for one', () => {
    const { model, ask } = receive(nothing, event(3, 2, count(1)))
    expect(ask).toBe(true)
    expect(model.state).toBeNull()
  })
})

describe('what comes twice', () => {
  test('a double is dropped, and does not turn time back', () => {
    const once = receive(at(41), event(42, 41, count(5))).model
    const twice = receive(once, event(42, 41, count(4)))
    expect(twice).toEqual({ model: once, ask: false })
  })

  test('a seat of an older version does not replace a newer one', () => {
    const now = state({ seat: seat({ version: 5, declared: 'break' }), operators: [seat({ version: 5, declared: 'break' })] })
    const after = withSeat(now, seat({ version: 4 }))
    expect(after.seat?.declared).toBe('break')
    expect(after.operators[0]?.declared).toBe('break')
  })

  test('a ticket of an older version does not replace a newer one', () => {
    const held = at(1, { pop: pop({ ticket: ticket({ version: 5, subject: 'nuovo' }) }) })
    const { model } = receive(held, event(2, 1, { kind: 'ticket', data: ticket({ version: 4, subject: 'vecchio' }) }))
    expect(model.state?.pop?.ticket?.subject).toBe('nuovo')
  })
})

describe('resume', () => {
  test('in the same epoch the numbers go on and the missed events follow', () => {
    let step = receive(at(41), { type: 'resumed', epoch: 'e', seq: 41 })
    expect(step.ask).toBe(false)
    step = receive(step.model, event(43, 41, count(1)))
    step = receive(step.model, event(44, 43, count(2)))
    expect(step).toMatchObject({ ask: false, model: { seq: 44, behind: false } })
  })

  test('another epoch is not resumed', () => {
    expect(receive(at(41), { type: 'resumed', epoch: 'f', seq: 41 }).ask).toBe(true)
  })
})

describe('a call', () => {
  const apply = (model: Model, ...events: Event[]) =>
    events.reduce((m, e) => receive(m, event(m.seq + 1, m.seq, e)).model, model)

  test('rings, is talked, is wrapped up, is over', () => {
    let m = apply(at(1), { kind: 'seat', data: seat({ doing: 'offered', version: 2 }) }, { kind: 'call.offered', data: pop() })
    expect(phase(m.state)).toBe('ringing')
    m = apply(m, { kind: 'seat', data: seat({ doing: 'talking', version: 3 }) }, { kind: 'call.talking', data: pop({ offer: null }) })
    expect(phase(m.state)).toBe('talking')
    m = apply(m, { kind: 'call.ended', data: { contact_id: 'c1', ending: 'served' } })
    expect(phase(m.state)).toBe('wrapping')
    expect(m.state?.pop?.ticket?.number).toBe('2026-1')
    m = apply(m, { kind: 'seat', data: seat({ doing: 'wrapping', version: 4 }) })
    expect(phase(m.state)).toBe('wrapping')
    m = apply(m, { kind: 'seat', data: seat({ version: 5 }) }, { kind: 'pop.cleared', data: {} })
    expect(phase(m.state)).toBe('idle')
  })

  test('talks also when its event overtakes the seat', () => {
    const m = apply(at(1), { kind: 'call.offered', data: pop() }, { kind: 'seat', data: seat({ doing: 'offered', version: 2 }) }, { kind: 'call.talking', data: pop({ offer: null }) })
    expect(phase(m.state)).toBe('talking')
  })

  test('a caller who hangs up while it rings takes the pop along', () => {
    const m = apply(at(1), { kind: 'call.offered', data: pop() }, { kind: 'call.ended', data: { contact_id: 'c1', ending: 'abandoned_queue' } })
    expect(m.state?.pop).toBeNull()
  })

  test('the end of somebody else’s call changes nothing here', () => {
    const m = apply(at(1), { kind: 'call.offered', data: pop() }, { kind: 'call.ended', data: { contact_id: 'c9', ending: 'served' } })
    expect(phase(m.state)).toBe('ringing')
  })

  test('somebody else’s seat is not mine', () => {
    const m = apply(at(1), { kind: 'seat', data: seat({ operator: 'bruno', doing: 'talking', version: 9 }) })
    expect(m.state?.seat?.doing).toBe('idle')
    expect(m.state?.operators).toHaveLength(2)
  })

  test('who is let go stays until the call is over, then leaves, and does not come back with an echo', () => {
    const busy = seat({ operator: 'bruno', doing: 'talking', declared: 'off', active: false, version: 3 })
    const m = apply(at(1), { kind: 'seat', data: busy }, { kind: 'seat', data: { ...busy, doing: 'wrapping', version: 4 } })
    expect(m.state?.operators.map((o) => o.operator)).toEqual(['anna', 'bruno'])
    const gone = { ...busy, doing: 'idle' as const, version: 5 }
    const after = apply(m, { kind: 'seat', data: gone }, { kind: 'seat', data: gone })
    expect(after.state?.operators.map((o) => o.operator)).toEqual(['anna'])
    expect(apply(after, { kind: 'seat', data: { ...gone, active: true } }).state?.operators).toHaveLength(2)
  })

  test('the first seat of somebody who never sat is theirs', () => {
    const m = apply(at(1, { seat: null, operators: [] }), { kind: 'seat', data: seat() })
    expect(m.state?.seat?.operator).toBe('anna')
  })

  test('a ticket that is closed leaves the caller’s open ones', () => {
    const m = apply(at(1, { pop: pop({ open_tickets: [ticket({ number: '2026-0' })] }) }), { kind: 'ticket', data: ticket({ number: '2026-0', status: 'closed', version: 2 }) })
    expect(m.state?.pop?.open_tickets).toEqual([])
  })
})
