// Commands and readings over HTTP. The cookie says who we are.

import type {
  Callback,
  CallType, Contact, Found, Me, Message, Outcome, Problem, Seat, Declared, Ticket, TicketPage, Topic, Conflict, Emergency, Fault, ServiceOverview, ServicePage, ServiceSettings, ServiceVersion, Route, TopicRoute,
} from './contract'
import type { CallbackFigures, Part, Today, Wish } from './contract'
import type { BadLine, Customer, Imported, Listening, ListeningsPage, Preview, Prompt, RegisterEntry, Taping, Trace } from './contract'

const PREFIX = '/api/v1'

/** No answer within this, in ms, and the command counts as not arrived. */
const PATIENCE = 15_000
/** A file is given so long, in ms: the server takes up to two minutes to import the register. */
const FILE_PATIENCE = 150_000

/** The server's refusal, or (status 0) no server. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly detail: string,
    readonly conflicts: Record<string, Conflict> | undefined = undefined,
    readonly field: string | undefined = undefined,
    /** Of settings that cannot be published. */
    readonly faults: Fault[] | undefined = undefined,
    /** Of a file, everything that cannot be used. */
    readonly lines: BadLine[] = [],
  ) {
    super(detail)
  }
  /** Trying again later can help. */
  get away(): boolean {
    return this.status === 0 || this.status >= 500 || this.status === 429
  }
}

/** For so long, in ms, a command that is given again may be the one whose answer was lost. */
const UNSURE = 10 * 60_000

/**
 * The last command to each thing (a ticket, a seat) that has no answer yet, with the key it went out under: given again,
 * it is not done twice. Another command to the same thing in between makes it a new one.
 */
const unsure = new Map<string, { command: string; key: string; at: number }>()

const thing = (path: string) => path.split('/').slice(0, 3).join('/')

function keyOf(path: string, command: string): string {
  const last = unsure.get(thing(path))
  if (last?.command === command && Date.now() - last.at < UNSURE) return last.key
  // not crypto.randomUUID: a page served by plain http inside the house lacks it
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('')
  unsure.set(thing(path), { command, key, at: Date.now() })
  return key
}

function answered(path: string, key: string): void {
  if (unsure.get(thing(path))?.key === key) unsure.delete(thing(path))
}

export async function request<T>(method: string, path: string, body?: unknown, leaving = false): Promise<T> {
  if (method === 'GET') return ask<T>(method, path, body, leaving, {})
  const key = keyOf(path, `${method} ${path} ${JSON.stringify(body)}`)
  try {
    const answer = await ask<T>(method, path, body, leaving, { 'Idempotency-Key': key })
    answered(path, key)
    return answer
  } catch (e) {
    if (!(e instanceof Refused && e.away)) answered(path, key)
    throw e
  }
}

function ask<T>(method: string, path: string, body: unknown, leaving: boolean, headers: Record<string, string>): Promise<T> {
  return reach<T>(path, {
    method,
    headers: body === undefined ? headers : { ...headers, 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
    keepalive: leaving,
    signal: leaving ? undefined : AbortSignal.timeout(PATIENCE),
  })
}

/** Sends a file as it is. */
function send<T>(method: string, path: string, kind: string, file: BodyInit): Promise<T> {
  return reach<T>(path, { method, headers: { 'Content-Type': kind }, body: file, signal: AbortSignal.timeout(FILE_PATIENCE) })
}

async function reach<T>(path: string, how: RequestInit): Promise<T> {
  let response: Response
  try {
    response = await fetch(PREFIX + path, { ...how, credentials: 'same-origin' })
  } catch {
    throw new Refused(0, '')
  }
  if (!response.ok) {
    let problem: Partial<Problem> = {}
    try {
      problem = (await response.json()) as Problem
    } catch {
      // a proxy's page, not ours
    }
    throw new Refused(response.status, problem.detail ?? problem.title ?? '', problem.conflicts, problem.field, problem.faults, problem.lines)
  }
  if (response.status === 204) return undefined as T
  try {
    return (await response.json()) as T
  } catch {
    throw new Refused(0, '')
  }
}

const q = encodeURIComponent

export interface TicketFilter {
  status: 'open' | 'closed' | 'all'
  owner: 'me' | 'none' | ''
  q: string
  /** Of this person of the register; 0: of all. */
  customer?: number
}

export const api = {
  me: () => request<Me>('GET', '/me'),
  topics: () => request<{ items: Topic[] }>('GET', '/topics'),
  callTypes: () => request<{ items: CallType[] }>('GET', '/call-types'),

  declare: (operator: string, declared: Declared, reason: string) =>
    request<Seat>('PUT', `/operators/${q(operator)}/state`, { declared, reason }),
  /** seconds */
  extend: (operator: string, seconds: number) => request<Seat>('POST', `/operators/${q(operator)}/wrapup`, { extend: seconds }),

  painted: (offer: string) => request<void>('POST', `/offers/${q(offer)}/painted`),
  taping: () => request<Taping>('GET', '/talk/recording'),
  pauseTaping: (paused: boolean) => request<Taping>('POST', '/talk/recording', { paused }),
  /** What one's own talk is to do; whom it is about. */
  talk: (wish: Wish, target: object) => request<void>('POST', '/talk', { wish, ...target }),
  /** One's own part in a colleague's talk. */
  supervise: (operator: string, part: Part) => request<void>('POST', '/supervision', { operator, part }),
  superviseAs: (part: Part) => request<void>('PUT', '/supervision', { part }),
  stopSupervising: () => request<void>('DELETE', '/supervision'),
  decline: (offer: string) => request<void>('POST', `/offers/${q(offer)}/decline`),

  tickets: (f: TicketFilter, cursor: string, limit = 50) => {
    const p = new URLSearchParams({ status: f.status, limit: String(limit) })
    if (f.owner) p.set('owner', f.owner)
    if (f.q) p.set('q', f.q)
    if (f.customer) p.set('customer', String(f.customer))
    if (cursor) p.set('cursor', cursor)
    return request<{ items: Ticket[]; next: string | null }>('GET', `/tickets?${p}`)
  },
  /** One group's page after a cursor, or the beginning of each. */
  search: (text: string, group: 'tickets' | 'people' | 'numbers' | '' = '', cursor = '') => {
    const p = new URLSearchParams({ q: text, limit: '10' })
    if (group) p.set('in', group)
    if (cursor) p.set('cursor', cursor)
    return request<Found>('GET', `/search?${p}`)
  },

  customers: (text: string, cursor = '') => {
    const p = new URLSearchParams({ q: text, limit: '50' })
    if (cursor) p.set('cursor', cursor)
    return request<{ items: Customer[]; next: string | null }>('GET', `/customers?${p}`)
  },
  customer: (id: number) => request<RegisterEntry>('GET', `/customers/${id}`),
  addCustomer: (person: object) => request<RegisterEntry>('POST', '/customers', person),
  patchCustomer: (id: number, base: object, set: object) => request<RegisterEntry>('PATCH', `/customers/${id}`, { base, set }),
  removeCustomer: (id: number, version: number) => request<void>('DELETE', `/customers/${id}?version=${version}`),
  /** `gone` becomes `kept`. */
  mergeCustomers: (kept: RegisterEntry, gone: RegisterEntry) =>
    request<RegisterEntry>('POST', `/customers/${kept.id}/merge`, { version: kept.version, gone: gone.id, gone_version: gone.version }),
  previewCustomers: (file: ArrayBuffer) => send<Preview>('POST', '/customers/import/preview', 'text/csv', file),
  importCustomers: (file: ArrayBuffer) => send<Imported>('POST', '/customers/import', 'text/csv', file),

  trace: (contact: string) => request<{ items: Trace[] }>('GET', `/contacts/${q(contact)}/trace`),
  listenings: (contact: string) => request<{ items: Listening[] }>('GET', `/contacts/${q(contact)}/listenings`),
  allListenings: (f: { name: string; from: string; to: string }, cursor = '') => {
    const p = new URLSearchParams({ limit: '50' })
    for (const [key, value] of Object.entries({ ...f, cursor })) if (value) p.set(key, value)
    return request<ListeningsPage>('GET', `/listenings?${p}`)
  },
  prompts: () => request<{ items: Prompt[] }>('GET', '/prompts'),
  putPrompt: (name: string, text: string, file: Blob) => send<Prompt>('PUT', `/prompts/${q(name)}?text=${q(text)}`, 'audio/wav', file),
  restorePrompt: (name: string) => request<void>('DELETE', `/prompts/${q(name)}`),

  ticket: (number: string) => request<TicketPage>('GET', `/tickets/${q(number)}`),
  patch: (number: string, base: object, set: object, leaving = false) =>
    request<Ticket>('PATCH', `/tickets/${q(number)}`, { base, set }, leaving),
  take: (number: string) => request<Ticket>('POST', `/tickets/${q(number)}/take`),
  note: (number: string, text: string) => request<Ticket>('POST', `/tickets/${q(number)}/notes`, { text }),
  close: (number: string, outcome: Outcome, solution: string) =>
    request<Ticket>('POST', `/tickets/${q(number)}/close`, { outcome, solution }),
  reopen: (number: string) => request<Ticket>('POST', `/tickets/${q(number)}/reopen`),

  messages: (state: 'new' | 'all') => request<{ items: Message[] }>('GET', `/messages?state=${state}`),
  heard: (id: string) => request<unknown>('POST', `/messages/${q(id)}/heard`),
  takeMessage: (id: string) => request<unknown>('POST', `/messages/${q(id)}/take`),

  ringBacks: () => request<{ items: Contact[] }>('GET', '/ringbacks'),
  takeRingBack: (contact: string) => request<unknown>('POST', `/ringbacks/${q(contact)}/take`),

  /** One's own telephone rings first, then the customer's. */
  callRingBack: (contact: string) => request<unknown>('POST', `/ringbacks/${q(contact)}/call`),
  callMessage: (id: string) => request<unknown>('POST', `/messages/${q(id)}/call`),
  callTicket: (number: string) => request<unknown>('POST', `/tickets/${q(number)}/call`),
  bookRingBack: (contact: string) => request<unknown>('POST', `/ringbacks/${q(contact)}/book`),
  /** Both instants in ISO form; the second no longer belongs to it. */
  callbackFigures: (from: string, to: string) => request<CallbackFigures>('GET', `/callbacks/figures?${new URLSearchParams({ from, to })}`),
  today: () => request<Today>('GET', '/figures/today'),
  callbacks: () => request<{ items: Callback[] }>('GET', '/callbacks'),
  cancelCallback: (id: string) => request<unknown>('POST', `/callbacks/${q(id)}/cancel`),
}

/** How the desk is set up: services, topics, and the emergency announcement. */
export const services = {
  list: () => request<{ items: ServiceOverview[] }>('GET', '/services'),
  page: (id: number) => request<ServicePage>('GET', `/services/${id}`),
  begin: (settings: ServiceSettings) => request<ServicePage>('POST', '/services', { settings, valid_from: null }),
  save: (id: number, settings: ServiceSettings, valid_from: string | null, revision: number) =>
    request<ServiceVersion>('PUT', `/services/${id}/draft`, { settings, valid_from, revision }),
  discard: (id: number, revision: number) => request<void>('DELETE', `/services/${id}/draft?revision=${revision}`),
  check: (id: number) => request<{ items: Fault[] }>('POST', `/services/${id}/check`),
  publish: (id: number, revision: number) => request<ServiceVersion>('POST', `/services/${id}/publish`, { revision }),

  routes: () => request<{ items: TopicRoute[] }>('GET', '/topics/routes'),
  route: (code: string, base: Route, route: Route) => request<void>('PUT', `/topics/${q(code)}/route`, { base, route }),

  beginEmergency: (clip: string, until: string | null) => request<Emergency>('PUT', '/emergency', { ...(clip ? { clip } : {}), ...(until ? { until } : {}) }),
  endEmergency: () => request<void>('DELETE', '/emergency'),
}

/** Where a contact's sound is. */
export const recordingURL = (contact: string) => `${PREFIX}/contacts/${q(contact)}/recording`
/** The recorded talk of a contact. */
export const talkURL = (contact: string) => `${PREFIX}/contacts/${q(contact)}/talk`

/** Why a sound cannot be had, by the server's word: a player only knows that it cannot. */
export async function soundProblem(url: string): Promise<string> {
  try {
    const response = await fetch(url, { headers: { Range: 'bytes=0-0' }, credentials: 'same-origin', signal: AbortSignal.timeout(PATIENCE) })
    return response.ok ? '' : (((await response.json()) as Partial<Problem>).detail ?? '')
  } catch {
    return '' // no server, or a proxy's page
  }
}

/** Where a prompt's sound is; another when it was replaced. */
export const promptURL = (p: Prompt, original = false) => `${PREFIX}/prompts/${q(p.name)}/sound?${original ? 'original=true' : `at=${q(p.at ?? '')}`}`

/** The socket's address. */
export function socketURL(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${PREFIX}/socket`
}
