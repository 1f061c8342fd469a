// What the server and the console exchange (prefix /api/v1). The types of the
// API are made from its description (openapi.d.ts, `npm run types`): the page
// cannot be checked against anything but what the server gives.

import type { components } from './openapi'

type Schemas = components['schemas']

export type Me = Schemas['Me']
export type Seat = Schemas['Seat']
export type Declared = Seat['declared']
export type Doing = Seat['doing']
/** What can be asked of one's own talk. */
export type Wish = Schemas['TalkInputBody']['wish']
/** How a supervisor takes part in an operator's talk. */
export type Part = Schemas['PartInputBody']['part']
export type Topic = Schemas['Topic']
export type CallType = Schemas['CallType']
export type Person = Schemas['Person']
export type Customer = Schemas['Customer']
/** A person of the register as the page that edits them shows it. */
export type RegisterEntry = Schemas['RegisterEntry']
export type Imported = Schemas['Imported']
export type Preview = Schemas['Preview']
export type BadLine = Schemas['BadLine']
/** What was signalled for a contact. */
export type Trace = Schemas['Trace']
export type Listening = Schemas['Listening']
export type Listened = Schemas['Listened']
export type ListeningsPage = Schemas['ListeningsPage']
/** What callers hear. */
export type Prompt = Schemas['Prompt']
export type Ticket = Schemas['Ticket']
export type TicketPage = Schemas['TicketPage']
export type TimelineEntry = Schemas['TimelineEntry']
export type TalkGap = NonNullable<TimelineEntry['talk_gaps']>[number]
export type Taping = Schemas['Taping']
export type Found = Schemas['Found']
export type Telephone = Schemas['Telephone']
export type Note = Schemas['Note']
export type Contact = Schemas['Contact']
export type JournalLine = Schemas['JournalLine']
export type Waiting = Schemas['Waiting']
export type Message = Schemas['Message']
/** A promise to ring somebody back. */
export type Callback = Schemas['Callback']
export type CallbackFigures = Schemas['CallbackFigures']
/** The calls of today so far. */
export type Today = Schemas['Today']
export type Sure = Schemas['Match']['sure']
/** Everything a screen starts from; the seat is null for who has never declared anything. */
export type State = Schemas['State']
/** Who is calling; the ticket is null only when it could not be opened in time. */
export type Pop = Schemas['Pop']

/** The announcement that every caller hears instead of a menu. */
export type Emergency = Schemas['Emergency']
export type ServiceOverview = Schemas['ServiceOverview']
export type ServicePage = Schemas['ServicePage']
export type ServiceVersion = Schemas['ServiceVersion']
export type ServiceSettings = Schemas['ServiceSettings']
export type TopicRoute = Schemas['TopicRoute']
/** How a topic's demands relax while a caller waits. */
export type Route = TopicRoute['route']
/** What is wrong with settings, and where. */
export type Fault = Schemas['Fault']

/** What a form may close a ticket with; the API takes the codes of /outcomes. */
export type Outcome = 'risolto' | 'da_richiamare' | 'inoltrato' | 'non_pertinente'

/** What can be said about a topic or a service: its row, or only its name. */
export type Named = { id?: number; code?: string; name: string } | string | null

export interface Conflict {
  current: string | number | null
  by: Person | string | null
  at: string
}

/** RFC 9457, with Italian detail. */
export type Problem = Omit<Schemas['Problem'], 'conflicts'> & { conflicts?: Record<string, Conflict> }

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
  | { kind: 'ringbacks'; data: { due: number; callbacks: number } }
  | { kind: 'emergency'; data: Emergency }
  | { kind: 'services'; data: Record<string, never> }
  | { kind: 'taping'; data: { contact_id: string } }

export type FromServer =
  | { type: 'snapshot'; epoch: string; seq: number; state: State }
  | { type: 'resumed'; epoch: string; seq: number }
  | ({ type: 'event'; seq: number; prev: number } & Event)
  /** away: the database cannot be read, what is shown may be old; alarm: for those who supervise, in Italian */
  | { type: 'tick'; at: string; away?: boolean; alarm?: string }
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
