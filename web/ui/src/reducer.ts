// What the socket says, applied to what is known. A pure function: everything
// that can go wrong on the wire (gaps, doubles, a resume) is tested here.

import type { FromServer, Pop, Seat, State, Ticket } from './contract'

export interface Model {
  /** The life of the server's reader that `seq` counts in; '' before the first snapshot. */
  epoch: string
  /** The last event seen. */
  seq: number
  state: State | null
  /** A gap was seen and a snapshot asked for. */
  behind: boolean
}

export const nothing: Model = { epoch: '', seq: 0, state: null, behind: false }

export interface Step {
  model: Model
  /** Send {"type":"snapshot"}: something was missed. */
  ask: boolean
}

const keep = (model: Model): Step => ({ model, ask: false })

/** What becomes of the model when a message arrives. */
export function receive(model: Model, message: FromServer): Step {
  switch (message.type) {
    case 'snapshot':
      return keep({ epoch: message.epoch, seq: message.seq, state: message.state, behind: false })
    case 'resumed':
      // Another epoch cannot be resumed: our numbers mean nothing in it.
      if (message.epoch !== model.epoch || !model.state) return lost(model)
      return keep(model)
    case 'event': {
      if (!model.state) return lost(model)
      if (message.seq <= model.seq) return keep(model) // a double
      const gap = message.prev !== model.seq
      // What did arrive is applied at once: values are whole, and a call that rings cannot wait for the snapshot.
      const next = { ...model, seq: message.seq, state: apply(model.state, message) }
      return gap ? lost(next) : keep(next)
    }
    default:
      return keep(model) // ticks, and what a newer server may send
  }
}

function lost(model: Model): Step {
  return model.behind ? keep(model) : { model: { ...model, behind: true }, ask: true }
}

function apply(state: State, event: Extract<FromServer, { type: 'event' }>): State {
  switch (event.kind) {
    case 'seat':
      return withSeat(state, event.data)
    case 'waiting':
      return { ...state, waiting: event.data.items }
    case 'call.offered':
      return { ...state, pop: event.data }
    case 'call.talking':
      return { ...state, pop: { ...event.data, offer: null } }
    case 'call.ended':
      return withEnding(state, event.data.contact_id, event.data.ending)
    case 'pop.cleared':
      return { ...state, pop: null }
    case 'ticket':
      return withTicket(state, event.data)
    case 'messages':
      return { ...state, messages_new: event.data.new }
    case 'ringbacks':
      return { ...state, ringbacks_due: event.data.due, callbacks_open: event.data.callbacks }
    case 'emergency':
      return { ...state, emergency: event.data }
    default:
      return state // a newer server's event
  }
}

/** A seat that somebody sent (event or answer to a command): the newer one stands. */
export function withSeat(state: State, seat: Seat): State {
  const own = seat.operator === state.me.name
  const known = state.operators.find((o) => o.operator === seat.operator)
  const others = state.operators
  let operators = known ? others.map((o) => (o.operator === seat.operator && seat.version >= o.version ? seat : o)) : [...others, seat]
  operators = operators.filter((o) => o.active || o.doing !== 'idle') // who was let go stays until the call is over
  return {
    ...state,
    seat: own && seat.version >= (state.seat?.version ?? 0) ? seat : state.seat,
    operators,
  }
}

function withEnding(state: State, contact: string, ending: string): State {
  const pop = state.pop
  if (!pop || pop.contact.id !== contact) return state
  // A caller who hangs up while it rings takes the offer along; after a talk the ticket stays to be finished.
  if (pop.offer) return { ...state, pop: null }
  return { ...state, pop: { ...pop, contact: { ...pop.contact, ending } } }
}

/** A ticket that somebody sent: the newer one stands, wherever it is shown. */
export function withTicket(state: State, ticket: Ticket): State {
  const pop = state.pop
  if (!pop) return state
  const newer = (old: Ticket) => (old.number === ticket.number && ticket.version >= old.version ? ticket : old)
  return {
    ...state,
    pop: {
      ...pop,
      ticket: pop.ticket && newer(pop.ticket),
      open_tickets: pop.open_tickets.map(newer).filter((t) => t.status !== 'closed'),
    },
  }
}

/** While a telephone rings: we dial once it is lifted. Who was rung back and given on is on the line already. */
export function toDial(pop: Pop | null): boolean {
  return pop !== null && pop.callback !== null && pop.callback.contact_id === pop.contact.id
}

export type Phase = 'idle' | 'ringing' | 'talking' | 'wrapping'

/** What the operator is in. Pop and seat come as two events: either order gives the same. */
export function phase(state: State | null): Phase {
  if (!state) return 'idle'
  const { pop, seat } = state
  if (pop?.offer) return 'ringing'
  if (seat?.doing === 'wrapping') return 'wrapping'
  if (seat?.doing === 'talking' || (pop && seat?.doing === 'offered')) {
    return pop && ended(pop) ? 'wrapping' : 'talking'
  }
  return 'idle'
}

function ended(pop: Pop): boolean {
  return pop.contact.ending !== null && pop.contact.ending !== undefined && pop.contact.ending !== ''
}
