// The console's memory: what the socket said, the tickets at hand, the drafts.
// Components read it; it alone talks to the server.

import { alertRing, askToAlert, hushRing } from './alert'
import { api, Refused, socketURL, type TicketFilter } from './http'
import { Link, type Light, type Wire } from './link'
import { nothing, phase, toDial, withSeat, withTicket, type Model, type Phase } from './reducer'
import { Draft, type Answer, type Store } from './draft'
import { ServerClock } from './clock'
import { words, type Words } from './words'
import { words as room } from './words/room'
import { words as supervision } from './words/supervision'
import { words as talk } from './words/talk'
import { declaredWords } from './seat'
import { nameOf, personName, type CallType, type Contact, type Declared, type Emergency, type Event, type Outcome, type Person, type Pop, type Seat, type State, type Ticket, type Topic, type Waiting, type Wish } from './contract'
import type { Language } from './format'
import { phone } from './format'

/** A message at the bottom of the screen stays this long, in ms; errors stay until closed. */
const NOTICE_FOR = 6000
/** Screens tick this often, in ms. */
const BEAT = 500
/** A hidden tab paints no frames: its pop counts as painted after this, in ms. */
const HIDDEN_PAINT = 100

/** What survives a reload: localStorage, or memory where a browser forbids it. */
function shelfOf(): Store & { keys(): string[] } {
  try {
    const probe = 'pronto.probe'
    localStorage.setItem(probe, '1')
    localStorage.removeItem(probe)
    return {
      getItem: (k) => localStorage.getItem(k),
      setItem: (k, v) => localStorage.setItem(k, v),
      removeItem: (k) => localStorage.removeItem(k),
      keys: () => Object.keys(localStorage),
    }
  } catch {
    const kept = new Map<string, string>()
    return {
      getItem: (k) => kept.get(k) ?? null,
      setItem: (k, v) => void kept.set(k, v),
      removeItem: (k) => void kept.delete(k),
      keys: () => [...kept.keys()],
    }
  }
}

export interface Notice {
  text: string
  bad: boolean
  /** A refused state: told until it no longer holds. */
  about?: 'state'
}

function unseated(state: State): Seat {
  return {
    operator: state.me.name, display_name: state.me.display_name, extension: state.me.extension, declared: 'off', reason: '', declared_at: '', forced_by: '',
    doing: 'idle', doing_at: '', doing_until: null, contact_id: null, ticket: null, talk: '', talk_at: null, talk_why: '', supervision: null, supervised_why: '', can_ring: true, cannot_ring_why: '', topics: [], version: 0, active: true,
  }
}

export class Desk {
  model = $state.raw<Model>(nothing)
  light = $state<Light>('reconnecting')
  signedOut = $state(false)
  /** The server's database is away: what is shown may be old. */
  stale = $state(false)
  /** What a supervisor must know of the installation, or ''. */
  alarm = $state('')
  /** The page could not even learn who is at it. */
  broken = $state(false)
  /** The server's time in ms, once per beat. */
  now = $state(Date.now())
  language = $state<Language>('it')
  topics = $state.raw<Topic[]>([])
  callTypes = $state.raw<CallType[]>([])
  tickets = $state.raw<ReadonlyMap<string, Ticket>>(new Map())
  /** The ticket in the middle of the operator's page, beside a ringing one. */
  card = $state<string | null>(null)
  /** Tickets begun and neither closed nor dismissed. */
  bench = $state.raw<readonly string[]>([])
  /** The call that was talked about on `card`. */
  lastPop = $state.raw<Pop | null>(null)
  /** Who rang when nobody answered. */
  missed = $state.raw<Pop | null>(null)
  notice = $state.raw<Notice | null>(null)
  /** Said at once, and said when there is time, by screen readers. */
  assertive = $state('')
  polite = $state('')
  /** Counts changes that lists care about. */
  ticketNews = $state(0)
  messageNews = $state(0)
  tapingNews = $state(0)
  ringBackNews = $state(0)
  serviceNews = $state(0)
  callNews = $state(0)
  /** The supervisor's word that the operator has read, by its instant. */
  forcedRead = $state('')

  readonly clock = new ServerClock()
  /** What survives a reload, for forms that keep what is typed. */
  readonly store = shelfOf()
  private readonly drafts = new Map<string, Draft>()
  private link: Link | null = null
  private beat: ReturnType<typeof setInterval> | undefined
  private noticeTimer: ReturnType<typeof setTimeout> | undefined
  private paintedOffer = ''
  /** Where the last model stood: amendments do not move it. */
  private stood = ''

  get state() {
    return this.model.state
  }
  get me() {
    return this.model.state?.me ?? null
  }
  /** Who has a telephone and never declared anything is off duty. */
  get seat(): Seat | null {
    const state = this.model.state
    if (!state) return null
    return state.seat ?? (state.me.extension ? unseated(state) : null)
  }
  get pop(): Pop | null {
    return this.model.state?.pop ?? null
  }
  get phase(): Phase {
    return phase(this.model.state)
  }
  get w(): Words {
    return words[this.language]
  }
  /** The emergency announcement, while it is on. */
  get emergency(): Emergency | null {
    const e = this.model.state?.emergency
    return e?.active && (e.until === null || Date.parse(e.until) > this.now) ? e : null
  }
  get supervisor(): boolean {
    return this.me?.role === 'supervisor' || this.me?.role === 'admin'
  }

  start(): void {
    const language = this.store.getItem('pronto.language')
    if (language === 'en' || language === 'it') this.language = language
    this.beat = setInterval(() => (this.now = this.clock.now()), BEAT)
    this.link = new Link({
      open: () => new WebSocket(socketURL()) as Wire,
      changed: (model, event) => this.changed(model, event),
      light: (light) => this.lightTurned(light),
      stale: (stale) => (this.stale = stale),
      alarm: (alarm) => (this.alarm = alarm),
      signedOut: () => (this.signedOut = true),
      heard: (at) => {
        this.clock.heard(at)
        this.now = this.clock.now()
      },
    })
    this.link.start()
    void this.read()
    window.addEventListener('online', () => this.link?.nudge())
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') {
        hushRing()
        this.link?.nudge()
      } else this.leave()
    })
    window.addEventListener('pagehide', () => this.leave())
  }

  stop(): void {
    clearInterval(this.beat)
    clearTimeout(this.noticeTimer)
    this.link?.stop()
    for (const d of this.drafts.values()) d.stop()
  }

  speak(language: Language): void {
    this.language = language
    document.documentElement.lang = language
    this.store.setItem('pronto.language', language)
  }

  say(text: string): void {
    // The same sentence twice is two messages: an unchanged live region is not read again.
    this.polite = this.polite === text ? `${text}\u00a0` : text
  }

  tell(text: string, bad = false, about?: 'state'): void {
    clearTimeout(this.noticeTimer)
    this.notice = { text, bad, about }
    if (bad) this.assertive = this.assertive === text ? `${text}\u00a0` : text
    else this.say(text)
    if (!bad) this.noticeTimer = setTimeout(() => (this.notice = null), NOTICE_FOR)
  }

  /** The state that was refused has been reached, or no longer matters. */
  private settle(): void {
    if (this.notice?.about !== 'state') return
    if (this.assertive.startsWith(this.notice.text)) this.assertive = ''
    this.notice = null
  }

  /** What went wrong, in words. */
  wrong(e: unknown): string {
    if (e instanceof Refused) {
      if (e.status === 401) this.signedOut = true
      if (e.detail) return e.detail
      return e.away ? this.w.errors.away : this.w.errors.failed
    }
    return this.w.errors.failed
  }

  // Who calls.

  /** The caller's name, or what stands for it. */
  who(pop: Pop | null): string {
    if (!pop) return ''
    if (pop.match.sure === 'withheld') return this.w.caller.withheld
    const chosen = pop.ticket?.customer ?? (pop.match.sure === 'certain' ? pop.match.customers[0] : null)
    if (chosen) return chosen.name
    if (pop.match.sure === 'several') return this.w.caller.several
    return this.w.caller.unknown
  }

  /** The same in the middle of a sentence: a number says more than that it is unknown. */
  whoShort(pop: Pop): string {
    const customer = pop.ticket?.customer ?? (pop.match.sure === 'certain' ? pop.match.customers[0] : null)
    return customer?.name ?? (pop.contact.caller ? phone(pop.contact.caller) : this.w.caller.withheld)
  }

  /** A colleague's name; some answers carry only the name they sign in with. */
  person(p: Person | string | null | undefined): string {
    const name = personName(p)
    return this.state?.operators.find((o) => o.operator === name)?.display_name ?? name
  }

  /** Who rang in a contact of a list. */
  whoOf(c: Contact): string {
    if (c.customer) return c.customer.name
    if (c.match === 'several') return this.w.caller.several
    return c.caller ? this.w.caller.unknown : this.w.caller.withheld
  }

  /** Who waits in the queue. */
  waiter(x: Waiting): string {
    return x.name || (x.caller ? phone(x.caller) : this.w.caller.withheld)
  }

  // Commands.

  /** One's own state, chosen on the page. False: it was refused, and the page says why. */
  async choose(declared: Declared, reason = ''): Promise<boolean> {
    if (declared === 'available') askToAlert()
    const problem = await this.declare(declared, reason)
    if (problem) this.tell(problem, true, 'state')
    return problem === ''
  }

  private async declare(declared: Declared, reason: string): Promise<string> {
    const name = this.me?.name
    if (!name) return this.w.errors.failed
    try {
      this.amendSeat(await api.declare(name, declared, reason))
      this.missed = null
      this.settle()
      return ''
    } catch (e) {
      return this.wrong(e)
    }
  }

  /** A supervisor's word for a colleague; what was wrong with it, or ''. */
  async force(operator: string, declared: Declared, reason: string): Promise<string> {
    try {
      const seat = await api.declare(operator, declared, reason)
      this.amendSeat(seat)
      this.tell(room[this.language].forced(seat.display_name, declaredWords(seat, this.w)))
      return ''
    } catch (e) {
      return this.wrong(e)
    }
  }

  async extendWrapUp(seconds: number): Promise<string> {
    if (!this.me) return this.w.errors.failed
    try {
      this.amendSeat(await api.extend(this.me.name, seconds))
      this.say(this.w.phone.plusMinuteDone)
      return ''
    } catch (e) {
      return this.wrong(e)
    }
  }

  async decline(): Promise<void> {
    const offer = this.pop?.offer
    if (!offer) return
    try {
      await api.decline(offer.id)
      this.tell(this.w.phone.declined)
      // The event that clears the pop may be late; the operator has decided.
      this.amend((m) => (m.state?.pop?.offer?.id === offer.id ? { ...m, state: { ...m.state, pop: null } } : m))
    } catch (e) {
      this.tell(e instanceof Refused && e.status === 409 ? this.w.phone.over : this.wrong(e), true)
    }
  }

  /** Asks something of the talk; how it stands then comes as an event of the seat. */
  async askTalk(wish: Wish, target: object = {}): Promise<boolean> {
    try {
      await api.talk(wish, target)
      this.say(talk[this.language].asked[wish] ?? '')
      return true
    } catch (e) {
      this.tell(this.wrong(e), true)
      return false
    }
  }

  /** A supervisor's word about their part in a colleague's talk; how it stands then comes as an event of that seat. */
  async supervise(ask: () => Promise<void>): Promise<boolean> {
    try {
      await ask()
      return true
    } catch (e) {
      this.tell(this.wrong(e), true)
      return false
    }
  }

  /** The pop stands in the page: once it is really painted the server hears of it. */
  paint(offer: string): void {
    if (offer === this.paintedOffer) return
    this.paintedOffer = offer
    let done = false
    const tell = () => {
      if (done) return
      done = true
      if (!this.link?.send({ type: 'painted', offer })) void api.painted(offer).catch(() => undefined)
    }
    // The first frame is the one that paints, the second says that it has.
    requestAnimationFrame(() => requestAnimationFrame(tell))
    setTimeout(tell, HIDDEN_PAINT)
  }

  // Tickets and drafts.

  ticket(number: string | null | undefined): Ticket | undefined {
    return number ? this.tickets.get(number) : undefined
  }

  /** A ticket that came by whatever way. */
  learn(ticket: Ticket): void {
    const known = this.tickets.get(ticket.number)
    if (known && known.version > ticket.version) return
    const next = new Map(this.tickets)
    next.set(ticket.number, ticket)
    this.tickets = next
    this.drafts.get(ticket.number)?.adopt(ticket)
  }

  /** The draft of a ticket that is known; one per ticket and tab, whoever shows it. */
  draft(ticket: Ticket): Draft {
    const known = this.drafts.get(ticket.number)
    if (known) return known
    const number = ticket.number
    const draft = new Draft(ticket, {
      key: this.draftKey(number),
      store: this.store,
      now: () => this.clock.now(),
      patch: (base, set, leaving) => this.patch(number, base, set, leaving),
      saved: (t) => this.learn(t),
    })
    this.drafts.set(number, draft)
    return draft
  }

  async close(number: string, outcome: Outcome, solution: string): Promise<string> {
    try {
      const ticket = await api.close(number, outcome, solution)
      this.drafts.get(number)?.sent('outcome', 'solution')
      this.learn(ticket)
      this.forget(number)
      return ''
    } catch (e) {
      return this.wrong(e)
    }
  }

  /** Whoever takes a message or a call to ring back takes its ticket along, unless a colleague has it. */
  async takeAlong(number: string | null): Promise<void> {
    if (!number) return
    const ticket = await api.ticket(number)
    this.learn(ticket.status === 'open' && !ticket.owner ? await api.take(number) : ticket)
  }

  /** Rings somebody back: the page follows the telephone from here. */
  async ringBack(call: () => Promise<unknown>): Promise<void> {
    askToAlert()
    try {
      await call()
      this.tell(this.w.callback.ringsYou)
    } catch (e) {
      this.tell(this.wrong(e), true)
    }
  }

  /** The ticket goes from the middle of the page to the shelf. */
  putAside(): void {
    if (!this.card) return
    this.bench = [this.card, ...this.bench.filter((n) => n !== this.card)]
    this.card = null
    this.lastPop = null
    this.keepBench()
  }

  resume(number: string): void {
    if (this.card) this.bench = [this.card, ...this.bench]
    this.bench = this.bench.filter((n) => n !== number)
    this.card = number
    this.lastPop = null
    this.keepBench()
  }

  /** Nothing more to do on this ticket here. */
  forget(number: string): void {
    if (this.card === number) this.card = null
    this.bench = this.bench.filter((n) => n !== number)
    this.keepBench()
  }

  /** Reads a ticket that is on the bench but not in memory. */
  async fetch(number: string): Promise<string> {
    try {
      this.learn(await api.ticket(number))
      return ''
    } catch (e) {
      if (e instanceof Refused && e.status === 404) this.forget(number)
      return this.wrong(e)
    }
  }

  list(filter: TicketFilter, cursor: string, limit?: number) {
    return api.tickets(filter, cursor, limit)
  }

  async signOut(form: HTMLFormElement): Promise<void> {
    await Promise.all([...this.drafts.values()].map((d) => d.flush().catch(() => false)))
    form.submit()
  }

  // Inside.

  private async read(): Promise<void> {
    try {
      const [me, topics, callTypes] = await Promise.all([api.me(), api.topics(), api.callTypes()])
      this.broken = false
      this.topics = topics.items
      this.callTypes = callTypes.items
      this.wake(me.name)
    } catch (e) {
      if (e instanceof Refused && e.status === 401) {
        // Nothing is typed yet: straight to the door.
        if (!this.state) location.assign('/signin')
        else this.signedOut = true
        return
      }
      this.broken = true
      setTimeout(() => void this.read(), 3000)
    }
  }

  private user = ''

  private draftKey(number: string): string {
    return `pronto.draft.${this.user || this.me?.name || ''}.${number}`
  }

  private get benchKey(): string {
    return `pronto.bench.${this.user}`
  }

  private keepBench(): void {
    try {
      this.store.setItem(this.benchKey, JSON.stringify({ card: this.card, bench: this.bench }))
    } catch {
      // full or forbidden: the tickets are in the list of my tickets too
    }
  }

  /** What an earlier life of this page left: its tickets, and drafts that the server never acknowledged. */
  private wake(user: string): void {
    if (this.user) return
    this.user = user
    try {
      const kept = JSON.parse(this.store.getItem(this.benchKey) ?? '{}') as { card?: string | null; bench?: string[] }
      const shelf = (kept.bench ?? []).filter((n) => n !== this.card)
      if (kept.card && kept.card !== this.card) {
        if (this.card) shelf.unshift(kept.card)
        else this.card = kept.card
      }
      this.bench = [...new Set([...this.bench, ...shelf])].filter((n) => n !== this.card)
    } catch {
      // not ours
    }
    const prefix = `pronto.draft.${user}.`
    const keys = this.store.keys()
    const drafted = keys.filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length))
    for (const number of new Set([...(this.card ? [this.card] : []), ...this.bench, ...drafted])) void this.revive(number)
  }

  private async revive(number: string): Promise<void> {
    const problem = this.tickets.has(number) ? '' : await this.fetch(number)
    const ticket = this.ticket(number)
    if (problem || !ticket) return
    const draft = this.draft(ticket) // what was left unsaved is saved now
    if (ticket.status === 'closed' && draft.empty) this.forget(number)
  }

  private async patch(number: string, base: object, set: object, leaving: boolean): Promise<Answer> {
    try {
      return { kind: 'saved', ticket: await api.patch(number, base, set, leaving) }
    } catch (e) {
      if (!(e instanceof Refused)) return { kind: 'away', detail: '' }
      if (e.status === 401) {
        this.signedOut = true
        return { kind: 'signed_out' }
      }
      if (e.conflicts) return { kind: 'conflict', conflicts: e.conflicts }
      return e.away ? { kind: 'away', detail: e.detail } : { kind: 'refused', detail: e.detail, field: e.field }
    }
  }

  /** The page goes away or behind: what is unsaved goes now. */
  private leave(): void {
    for (const d of this.drafts.values()) void d.flush(true)
  }

  private amend(change: (m: Model) => Model): void {
    this.link?.amend(change)
  }

  private amendSeat(seat: Seat): void {
    this.amend((m) => (m.state ? { ...m, state: withSeat(m.state, seat) } : m))
  }

  private lightTurned(light: Light): void {
    if (light === this.light) return
    const was = this.light
    this.light = light
    if (light === 'connected') {
      if (was === 'offline') this.say(this.w.light.connected)
      for (const d of this.drafts.values()) d.retry()
      if (this.topics.length === 0) void this.read()
    } else if (light === 'offline') {
      this.say(`${this.w.light.offline}. ${this.w.light.offlineBanner}`)
      // A refused socket looks like a missing server: ask which of the two it is.
      void api.me().catch((e: unknown) => this.wrong(e))
    }
  }

  private changed(model: Model, event: Event | null): void {
    const before = this.model.state
    this.model = model
    const after = model.state
    if (!after) return
    if (event?.kind === 'ticket') {
      this.learn(event.data)
      this.ticketNews++
    } else if (event?.kind === 'messages') this.messageNews++
    else if (event?.kind === 'ringbacks') this.ringBackNews++
    else if (event?.kind === 'services') this.serviceNews++
    else if (event?.kind === 'taping') this.tapingNews += Number(event.data.contact_id === after.pop?.contact.id)
    else if (event?.kind === 'call.ended') this.callNews++
    else if (event === null && model.epoch + model.seq !== this.stood) {
      // A snapshot: whatever was missed may be in any list.
      this.ticketNews++
      this.messageNews++
      this.tapingNews++
      this.ringBackNews++
      this.serviceNews++
      this.callNews++
    }
    this.stood = model.epoch + model.seq
    if (after.pop && after.pop !== before?.pop) {
      if (after.pop.ticket) this.learn(after.pop.ticket)
      for (const t of after.pop.open_tickets) this.learn(t)
    }
    this.announce(before?.pop ?? null, phase(before), after.pop, phase(after))
    const seat = after.seat
    if (seat?.supervision?.since && before?.seat && (before.seat.supervision?.part !== seat.supervision.part || !before.seat.supervision.since)) {
      this.assertive = supervision[this.language].attended(seat.supervision.part, seat.supervision.display_name, talk[this.language].far[after.pop?.contact.direction ?? 'inbound'])
    }
    if (seat?.forced_by && before?.seat && seat.declared_at !== before.seat.declared_at) this.assertive = room[this.language].forcedYou(seat.forced_by, declaredWords(seat, this.w))
    const number = after.pop?.ticket?.number
    if (number && !after.pop?.offer) {
      // Talked to: the ticket is on the desk until it is closed or put aside, whatever else rings.
      this.lastPop = after.pop
      if (this.card !== number && after.pop?.ticket?.status !== 'closed') {
        this.bench = [...(this.card ? [this.card] : []), ...this.bench].filter((n) => n !== number)
        this.card = number
        this.keepBench()
      }
    }
    const paused = after.seat?.declared === 'break' && (after.seat.reason === 'missed' || after.seat.reason === 'phone_unreachable')
    if (paused && before?.pop?.offer && !after.pop) this.missed = before.pop
    if (!paused && before?.pop?.offer && !after.pop) this.missed = before.pop // its seat event may follow
    if (after.pop?.offer) this.missed = null
    const reachable = after.seat?.can_ring && before?.seat?.can_ring === false
    if (reachable || (after.pop?.offer && after.pop.offer.id !== before?.pop?.offer?.id)) this.settle()
  }

  private announce(oldPop: Pop | null, was: Phase, pop: Pop | null, is: Phase): void {
    const w = this.w
    if (is === 'ringing' && pop?.offer && pop.offer.id !== oldPop?.offer?.id) {
      const customer = pop.match.sure === 'certain' ? pop.match.customers[0] : undefined
      const topic = pop.ticket?.topic?.name ?? nameOf(pop.contact.topic)
      this.assertive = w.phone.ringingSpoken([
        toDial(pop) ? w.callback.mark : '',
        this.who(pop),
        pop.match.sure === 'none' ? phone(pop.contact.caller) : '',
        customer?.practice ?? '',
        topic,
        (pop.ticket?.urgency ?? pop.contact.urgency) === 1 ? w.urgent : '',
        toDial(pop) ? w.callback.lift(this.me?.extension ?? '') : w.phone.lift(this.me?.extension ?? ''),
        `${w.phone.decline}: ${w.phone.declineKeys}`,
      ])
      alertRing(`${w.phone.ringing}: ${this.who(pop)}`, [pop.match.sure === 'none' ? phone(pop.contact.caller) : '', topic].filter(Boolean).join(' · '))
    } else if (is !== 'ringing' && was === 'ringing') {
      hushRing()
      this.assertive = is === 'talking' ? (pop?.callback && !pop.contact.tc ? w.callback.diallingSpoken(this.who(pop)) : w.phone.started(this.who(pop))) : ''
    } else if (is === 'wrapping' && was === 'talking') {
      this.say(outcomeOf(pop) ? (w.callback.outcomes[outcomeOf(pop)] ?? w.phone.ended) : w.phone.ended)
    }
  }
}

/** Why an attempt to ring somebody back came to nothing; '' when it did not. */
export function outcomeOf(pop: Pop | null): string {
  const last = pop?.callback?.attempts.find((a) => a.contact_id === pop.contact.id)?.outcome ?? ''
  return last === 'reached' ? '' : last
}

export const desk = new Desk()
