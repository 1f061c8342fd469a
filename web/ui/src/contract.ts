// The JSON that the server and the console exchange (prefix /api/v1). Instants
// are RFC 3339 strings, lengths say their unit in their name.

export type Declared = 'available' | 'break' | 'admin' | 'off'
export type Doing = 'idle' | 'offered' | 'talking' | 'wrapping'
export type Sure = 'certain' | 'several' | 'none' | 'withheld'
export type Outcome = 'risolto' | 'da_richiamare' | 'inoltrato' | 'non_pertinente'

/** What can be said about a topic or a service: its row, or only its name. */
export type Named = { id?: number; code?: string; name: string } | string | null

export interface Topic {
  id: number
  code: string
  name: string
}

export interface CallType {
  code: string
  name: string
}

export interface Person {
  name: string
  display_name: string
}

export interface Me {
  id: number
  name: string
  display_name: string
  role: 'operator' | 'supervisor' | 'admin'
  extension: string | null
  /** seconds */
  wrap_up: number
}

export interface Seat {
  operator: string
  display_name: string
  extension: string | null
  declared: Declared
  /** Pausa, Pranzo, …; missed or phone_unreachable when the desk paused them */
  reason: string
  declared_at: string
  doing: Doing
  doing_at: string
  doing_until: string | null
  contact_id: string | null
  ticket: string | null
  can_ring: boolean
  /** Italian; '' when it can */
  cannot_ring_why?: string
  version: number
}

export interface Customer {
  id: number
  code: string
  name: string
  practice: string
  authority: string
  email: string
  numbers: string[]
}

export interface Ticket {
  number: string
  status: 'open' | 'in_charge' | 'closed'
  subject: string
  description: string
  call_type: string
  topic: Topic | null
  urgency: 1 | 2
  fault_type: string
  channel: string
  customer: Customer | null
  requester_name: string
  requester_number: string
  practice: string
  authority: string
  outcome: string
  solution: string
  owner: Person | null
  received_at: string
  opened_at: string
  taken_at: string | null
  closed_at: string | null
  closed_by: Person | string | null
  version: number
}

export interface JournalLine {
  seq: number
  at: string
  kind: string
  data: Record<string, unknown> | null
}

export interface Contact {
  id: string
  call_id: string
  channel: string
  /** E.164, or '' when withheld */
  caller: string
  caller_source: string
  dialled: string
  service: Named
  customer: Customer | null
  match: Sure
  topic: Named
  urgency: 1 | 2 | null
  t0: string
  ta: string | null
  ts: string | null
  tq: string | null
  tr: string | null
  tc: string | null
  te: string | null
  tw: string | null
  tk: string | null
  ending: string | null
  ticket: string | null
  operator: Person | string | null
  number_told: boolean
  ring_back: string | null
  has_recording: boolean
  journal?: JournalLine[]
}

export interface Waiting {
  contact_id: string
  caller: string
  name: string
  topic: Named
  urgency: 1 | 2
  t0: string
  joined_at: string
  state: 'waiting' | 'offered'
}

export interface Message {
  id: string
  contact_id: string
  ticket: string | null
  caller: string
  name: string
  service: Named
  received_at: string
  length_ms: number
  sound_ms: number
  state: 'new' | 'taken' | 'heard'
  taken_by: Person | string | null
}

export interface Pop {
  offer: { id: string; offered_at: string; expires_at: string } | null
  contact: Contact
  match: { sure: Sure; why: string; customers: Customer[] }
  open_tickets: Ticket[]
  calls_today: number
  /** null only when the ticket could not be opened in time */
  ticket: Ticket | null
}

/** Everything a screen starts from. */
export interface State {
  me: Me
  /** null: this person has never declared anything */
  seat: Seat | null
  operators: Seat[]
  waiting: Waiting[]
  pop: Pop | null
  messages_new: number
  ringbacks_due: number
  now: string
}

export interface TimelineEntry {
  at: string
  kind: string
  text: string
  by: Person | string | null
  contact_id: string | null
  has_recording: boolean
  ending: string | null
}

export interface Note {
  id?: number
  at: string
  text: string
  by?: Person | string | null
  author?: Person | string | null
}

export interface TicketPage extends Ticket {
  timeline: TimelineEntry[]
  contacts: Contact[]
  notes: Note[]
}

export interface Conflict {
  current: string | number | null
  by: Person | string | null
  at: string
}

/** RFC 9457, with Italian detail. */
export interface Problem {
  title: string
  status: number
  detail: string
  /** what the detail is about */
  field?: string
  conflicts?: Record<string, Conflict>
}

// The socket.

export type Event =
  | { kind: 'seat'; data: Seat }
  | { kind: 'waiting'; data: { items: Waiting[] } }
  | { kind: 'call.offered'; data: Pop }
  | { kind: 'call.talking'; data: Pop }
  | { kind: 'call.ended'; data: { contact_id: string; ending: string } }
  | { kind: 'pop.cleared'; data: Record<string, never> }
  | { kind: 'ticket'; data: Ticket }
  | { kind: 'messages'; data: { new: number } }
  | { kind: 'ringbacks'; data: { due: number } }

export type FromServer =
  | { type: 'snapshot'; epoch: string; seq: number; state: State }
  | { type: 'resumed'; epoch: string; seq: number }
  | ({ type: 'event'; seq: number; prev: number } & Event)
  /** away: the database cannot be read, what is shown may be old */
  | { type: 'tick'; at: string; away?: boolean }
  | { type: 'away'; detail: string }

export type ToServer =
  | { type: 'hello'; epoch: string; seq: number }
  | { type: 'snapshot' }
  | { type: 'painted'; offer: string }

/** The name of a person however the server put it. */
export function personName(p: Person | string | null | undefined): string {
  if (!p) return ''
  return typeof p === 'string' ? p : p.display_name || p.name
}

/** The name of a topic or a service however the server put it. */
export function nameOf(n: Named | undefined): string {
  if (!n) return ''
  return typeof n === 'string' ? n : n.name
}
