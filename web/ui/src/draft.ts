// What an operator types into a ticket, from the key to the database. The rule
// above all others: nothing typed is ever lost. It stands in the browser's
// storage from the first key until the server has acknowledged it, and neither
// a fault, a colleague's change nor another call takes it off the screen.

import type { Conflict, Ticket } from './contract'

/** The fields that save themselves. */
export const FIELDS = [
  'requester_name', 'requester_number', 'subject', 'call_type', 'topic', 'urgency', 'fault_type', 'description',
  'customer',
] as const
export type Field = (typeof FIELDS)[number]
export type Value = string | number | null
export type Values = Record<Field, Value>
type Some = Partial<Record<Field, Value>>

/** What is kept beside them until the ticket is closed or the note is sent. */
export type Aside = 'outcome' | 'solution' | 'note'

/** The form saves itself this long after a change, in ms. */
export const SAVE_AFTER = 2000
/** After a fault, the first new attempt; each further one waits twice as long… */
export const AGAIN_FIRST = 2000
/** …up to this. */
export const AGAIN_MOST = 30_000

/** Values that may have arrived, per field: with retries 30 s apart, ten minutes of typing without an answer. */
const UNHEARD_MOST = 20

export type Status = 'clean' | 'typing' | 'saving' | 'saved' | 'away' | 'signed_out' | 'refused' | 'conflict'

export type Answer =
  | { kind: 'saved'; ticket: Ticket }
  | { kind: 'conflict'; conflicts: Record<string, Conflict> }
  /** the server understood and will not: trying the same again is useless */
  | { kind: 'refused'; detail: string; field?: string }
  | { kind: 'signed_out' }
  /** no server, or one with a fault: trying again helps */
  | { kind: 'away'; detail: string }

/** What a form shows. */
export interface View {
  values: Values
  status: Status
  /** Fields that the server does not have yet. */
  unsaved: Field[]
  /** ms, server's clock; null before the first save */
  savedAt: number | null
  problem: string
  conflicts: Partial<Record<Field, Conflict>>
  /** null: untouched */
  aside: Record<Aside, string | null>
}

export interface Store {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

export interface DraftOptions {
  /** Where the draft stands in the store. */
  key: string
  store: Store
  patch: (base: Some, set: Some, leaving: boolean) => Promise<Answer>
  now: () => number
  /** The ticket as the server answered. */
  saved?: (ticket: Ticket) => void
}

interface Stored {
  base: Some
  typed: Some
  unheard?: Partial<Record<Field, Value[]>>
  aside: Partial<Record<Aside, string | null>>
}

/** The ticket's values as the form has them. */
export function valuesOf(t: Ticket): Values {
  return {
    requester_name: t.requester_name ?? '',
    requester_number: t.requester_number ?? '',
    subject: t.subject ?? '',
    call_type: t.call_type ?? '',
    topic: t.topic?.id ?? null,
    urgency: t.urgency,
    fault_type: t.fault_type ?? '',
    description: t.description ?? '',
    customer: t.customer?.id ?? null,
  }
}

/** Topics and customers are ids here; a server may name them with their row. */
function plain(value: unknown): Value {
  if (value !== null && typeof value === 'object') return (value as { id?: number }).id ?? null
  return (value ?? null) as Value
}

export class Draft {
  /** What the server has, as far as is known. */
  private server: Values
  private version: number
  /** What was typed and not yet acknowledged… */
  private typed: Some = {}
  /** …and what stood there when the typing began: the server compares. */
  private base: Some = {}
  /** Values sent without a word back: they may have arrived, and then are no colleague's. */
  private unheard: Partial<Record<Field, Value[]>> = {}
  private conflicts: Partial<Record<Field, Conflict>> = {}
  private aside: Record<Aside, string | null> = { outcome: null, solution: null, note: null }
  /** Fields whose value the server will not have, and why: the others are saved without them. */
  private refusals: Partial<Record<Field, string>> = {}
  /**
   * Saved fields as they were typed, where the server writes them otherwise (a
   * telephone number in its international form): a text does not change under
   * the cursor, only when the operator has left the field.
   */
  private shown: Some = {}

  private state: 'rest' | 'saving' | 'away' | 'signed_out' | 'refused' = 'rest'
  private savedAt: number | null = null
  private problem = ''
  private failures = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private running: Promise<void> | null = null
  private watchers = new Set<(view: View) => void>()

  constructor(ticket: Ticket, private readonly o: DraftOptions) {
    this.server = valuesOf(ticket)
    this.version = ticket.version
    this.restore()
  }

  view(): View {
    return {
      values: { ...this.server, ...this.shown, ...this.typed },
      status: this.status(),
      unsaved: FIELDS.filter((f) => f in this.typed),
      savedAt: this.savedAt,
      problem: this.problem || (Object.values(this.refusals)[0] ?? ''),
      conflicts: this.conflicts,
      aside: this.aside,
    }
  }

  /** Tells fn what to show, now and after each change. Returns how to stop. */
  watch(fn: (view: View) => void): () => void {
    this.watchers.add(fn)
    fn(this.view())
    return () => this.watchers.delete(fn)
  }

  /** A key was pressed. */
  edit(field: Field, value: Value): void {
    if (!(field in this.typed)) this.base[field] = this.server[field]
    this.typed[field] = value
    delete this.shown[field]
    delete this.refusals[field]
    // Typed back to what the server has: nothing to save, unless a save of another value is on its way.
    if (value === this.server[field] && this.base[field] === value && !this.running && !this.conflicts[field]) {
      this.settle(field)
    }
    if (this.state === 'refused') this.state = 'rest' // another text may be acceptable
    this.keep()
    this.later(SAVE_AFTER)
    this.tell()
  }

  /** The operator has left the field. */
  leave(field: Field): void {
    if (!(field in this.shown)) return
    delete this.shown[field]
    this.tell()
  }

  /** Outcome, solution and note: kept here until they are sent with their command. */
  put(name: Aside, value: string): void {
    this.aside = { ...this.aside, [name]: value }
    this.keep()
    this.tell()
  }

  /** The ticket came from the server: by event, by reading, after a command. Typed fields stay as typed. */
  adopt(ticket: Ticket): void {
    if (ticket.version < this.version) return
    this.version = ticket.version
    const before = this.server
    this.server = valuesOf(ticket)
    for (const f of FIELDS) {
      if (this.server[f] !== before[f]) delete this.shown[f]
      // Somebody wrote the very same: nothing is left to save.
      if (f in this.typed && this.typed[f] === this.server[f] && !this.running) this.settle(f)
      else if (f in this.typed && this.unheard[f]?.includes(this.server[f])) this.base[f] = this.server[f]
    }
    // What was refused for the ticket as it was may be right for it as it is: reopened, for one.
    if (this.state === 'refused') {
      this.state = 'rest'
      this.later(SAVE_AFTER)
    }
    this.keep()
    this.tell()
  }

  /** In a conflict: my text replaces theirs. */
  keepMine(field: Field): void {
    const c = this.conflicts[field]
    if (!c) return
    this.base[field] = c.current
    this.drop(field)
    this.keep()
    this.later(0)
    this.tell()
  }

  /** In a conflict: their text stays and mine goes, because the operator said so. */
  takeTheirs(field: Field): void {
    const c = this.conflicts[field]
    if (!c) return
    this.server = { ...this.server, [field]: c.current }
    this.settle(field)
    this.keep()
    this.tell()
  }

  /** Saves what is unsaved at once. True when nothing is left to save. */
  async flush(leaving = false): Promise<boolean> {
    // A save under way may have begun before the last key: after it, look again. Bounded, as a fast typist never ends.
    for (let i = 0; i < 3; i++) {
      if (this.running) await this.running
      if (this.sendable().length === 0) break
      await this.save(leaving)
      if (this.state !== 'rest') break
    }
    return Object.keys(this.typed).length === 0
  }

  /** Try again now: the connection is back, or somebody pressed the button. */
  retry(): void {
    if (this.state === 'saving') return
    this.refusals = {}
    if (this.sendable().length === 0) return
    this.state = 'rest'
    this.later(0)
  }

  /** The ticket is closed and the asides were sent with it. */
  sent(...names: Aside[]): void {
    for (const n of names) this.aside = { ...this.aside, [n]: null }
    this.keep()
    this.tell()
  }

  /** Nothing stands here that the server does not have. */
  get empty(): boolean {
    return Object.keys(this.typed).length === 0 && Object.values(this.aside).every((v) => !v)
  }

  stop(): void {
    clearTimeout(this.timer)
    this.watchers.clear()
  }

  private status(): Status {
    // A conflict shows itself at its field; that nothing is saved at all is said first.
    if (this.state === 'away' || this.state === 'signed_out') return this.state
    if (Object.keys(this.conflicts).length > 0) return 'conflict'
    if (this.state !== 'rest') return this.state
    if (Object.keys(this.refusals).length > 0) return 'refused'
    if (Object.keys(this.typed).length > 0) return 'typing'
    return this.savedAt === null ? 'clean' : 'saved'
  }

  private sendable(): Field[] {
    return FIELDS.filter((f) => f in this.typed && !this.conflicts[f] && !this.refusals[f])
  }

  private later(ms: number): void {
    if (this.running || this.state === 'away' || this.state === 'refused') return
    if (this.sendable().length === 0) {
      clearTimeout(this.timer)
      this.timer = undefined
      return
    }
    if (this.timer !== undefined && ms > 0) return // the clock runs from the first unsaved key
    this.set(ms)
  }

  private set(ms: number): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      this.timer = undefined
      void this.save(false)
    }, ms)
  }

  private save(leaving: boolean): Promise<void> {
    if (this.running) return this.running
    clearTimeout(this.timer)
    this.timer = undefined
    const fields = this.sendable()
    if (fields.length === 0) return Promise.resolve()
    const base: Some = {}
    const set: Some = {}
    for (const f of fields) {
      base[f] = this.base[f]
      set[f] = this.typed[f]
      const sent = this.unheard[f] ?? []
      if (!sent.includes(set[f] as Value)) this.unheard[f] = [...sent, set[f] as Value].slice(-UNHEARD_MOST)
    }
    this.keep() // before it is sent: a page that dies now must know its own text again
    this.state = 'saving'
    this.problem = ''
    this.tell()
    this.running = this.o
      .patch(base, set, leaving)
      .catch((e: unknown): Answer => ({ kind: 'away', detail: String(e) }))
      .then((answer) => {
        this.running = null
        this.take(answer, set)
      })
    return this.running
  }

  private take(answer: Answer, set: Some): void {
    this.state = 'rest'
    switch (answer.kind) {
      case 'saved': {
        this.failures = 0
        this.savedAt = this.o.now()
        const written = valuesOf(answer.ticket)
        if (answer.ticket.version >= this.version) {
          this.version = answer.ticket.version
          this.server = written
        }
        for (const f of Object.keys(set) as Field[]) {
          if (this.typed[f] === set[f]) {
            this.settle(f)
            if (written[f] !== set[f]) this.shown[f] = set[f]
          } else {
            delete this.unheard[f]
            this.base[f] = written[f] // typed on meanwhile: the next save starts from what has just been saved
          }
        }
        this.o.saved?.(answer.ticket)
        break
      }
      case 'conflict':
        this.failures = 0
        for (const f of Object.keys(answer.conflicts).filter((f): f is Field => f in set)) {
          const found = answer.conflicts[f] as Conflict
          const c = { ...found, current: plain(found.current) }
          // The same text from another tab of ours, or an answer that got lost: saved already.
          if (c.current === this.typed[f]) {
            this.server = { ...this.server, [f]: c.current }
            this.settle(f)
          } else if (this.unheard[f]?.includes(c.current)) {
            this.base[f] = c.current // an answer that got lost, and more typed since
            this.server = { ...this.server, [f]: c.current }
          } else {
            this.conflicts = { ...this.conflicts, [f]: c }
          }
        }
        // A conflict that names nothing we sent would be sent again for ever.
        if (!Object.keys(answer.conflicts).some((f) => f in set)) this.refuse('')
        break
      case 'refused': {
        // One bad field keeps no other from being saved.
        const field = FIELDS.find((f) => f === answer.field && f in set)
        if (!field) this.refuse(answer.detail)
        else if (this.typed[field] === set[field]) this.refusals = { ...this.refusals, [field]: answer.detail }
        break
      }
      case 'signed_out':
        this.state = 'signed_out'
        break
      case 'away': {
        this.state = 'away'
        this.problem = answer.detail
        const wait = Math.min(AGAIN_MOST, AGAIN_FIRST * 2 ** this.failures)
        this.failures++
        this.set(wait)
        break
      }
    }
    this.keep()
    // The other fields of a conflict were not applied either: they go at once. What was typed meanwhile has its 2 s.
    this.later(answer.kind === 'conflict' || answer.kind === 'refused' ? 0 : SAVE_AFTER)
    this.tell()
  }

  private refuse(detail: string): void {
    this.state = 'refused'
    this.problem = detail
  }

  private settle(field: Field): void {
    delete this.typed[field]
    delete this.base[field]
    delete this.refusals[field]
    delete this.unheard[field]
    this.drop(field)
    if (this.sendable().length === 0 && (this.state === 'away' || this.state === 'refused')) {
      // What could not be sent is there by another way: the next key finds no old trouble.
      this.state = 'rest'
      this.problem = ''
      this.failures = 0
      clearTimeout(this.timer)
      this.timer = undefined
    }
  }

  private drop(field: Field): void {
    const { [field]: _, ...rest } = this.conflicts
    this.conflicts = rest
  }

  private keep(): void {
    try {
      if (this.empty) this.o.store.removeItem(this.o.key)
      else this.o.store.setItem(this.o.key, JSON.stringify({ base: this.base, typed: this.typed, unheard: this.unheard, aside: this.aside } satisfies Stored))
    } catch {
      // A full or forbidden store: the text is still in the page and on its way to the server.
    }
  }

  private restore(): void {
    let stored: Stored
    try {
      const text = this.o.store.getItem(this.o.key)
      if (!text) return
      stored = JSON.parse(text) as Stored
    } catch {
      return
    }
    for (const f of FIELDS) {
      if (!stored.typed || !(f in stored.typed)) continue
      if (stored.typed[f] === this.server[f]) continue // it arrived after all
      this.typed[f] = stored.typed[f]
      this.base[f] = stored.base && f in stored.base ? stored.base[f] : this.server[f]
      const unheard = stored.unheard?.[f]
      if (unheard) this.unheard[f] = unheard
    }
    this.aside = { ...this.aside, ...stored.aside }
    this.keep()
    this.later(SAVE_AFTER)
  }

  private tell(): void {
    const view = this.view()
    for (const fn of this.watchers) fn(view)
  }
}
