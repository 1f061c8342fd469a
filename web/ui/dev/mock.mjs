// A desk without telephones, for building and judging the console: the JSON of
// web, believable people, and scenes that the script of screenshots can ask for
// (POST /dev/<scene>). Never part of the bundle.
//
//   node dev/mock.mjs [port]     then open http://127.0.0.1:8099/

import { createServer } from 'node:http'
import { readFileSync, existsSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { randomUUID } from 'node:crypto'
import { WebSocketServer } from 'ws'

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist')
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
  "media-src 'self' blob:; worker-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const ago = (s) => new Date(Date.now() - s * 1000).toISOString()
const hence = (s) => new Date(Date.now() + s * 1000).toISOString()

export function mock(port, { as = 'anna' } = {}) {
  const topics = [
    { id: 1, code: 'software', name: 'Cartella clinica informatizzata' },
    { id: 2, code: 'certificati', name: 'Certificati di malattia' },
    { id: 3, code: 'carta', name: 'Tessera sanitaria e collegamento' },
    { id: 4, code: 'non-tecnica', name: 'Richieste non tecniche' },
  ]
  const callTypes = [
    ['intervento', 'Richiesta di intervento'], ['informazioni', 'Richiesta di informazioni o chiarimenti'], ['stato', 'Stato di una richiesta'],
    ['sollecito', 'Sollecito'], ['reclamo', 'Reclamo'], ['modifica', 'Richiesta di modifica o miglioramento'],
    ['non_tecnica', "Non tecnica (di competenza dell'azienda sanitaria)"],
  ].map(([code, name]) => ({ code, name }))
  const customer = (id, code, name, practice, authority, ...numbers) => ({ id, code, name, practice, authority, email: `${name.split(' ').at(-1).toLowerCase()}@medici.example`, numbers })
  const customers = [
    customer(1, '1042', 'Mario Rossi', 'Ambulatorio di via Gioberti 12, Firenze', 'Azienda USL Toscana Centro', '+390551234567', '+393471234567'),
    customer(2, '1077', 'Lucia Bianchi', 'Medicina di gruppo San Frediano, Firenze', 'Azienda USL Toscana Centro', '+390557654321'),
    customer(3, '2210', 'Giovanni Verdi', 'Medicina di gruppo San Frediano, Firenze', 'Azienda USL Toscana Centro', '+390557654321'),
    customer(4, '3381', 'Maria Antonietta Degli Innocenti Buonamici-Ridolfi', 'Aggregazione funzionale territoriale della Valdera e dell’Alta Val di Cecina, sede distaccata di Pontedera', 'Azienda USL Toscana Nord Ovest – Zona Alta Val di Cecina Valdera', '+390587123456'),
    customer(5, '1190', 'Paolo Conti', 'Studio medico piazza Dalmazia 3, Firenze', 'Azienda USL Toscana Centro', '+39055445566'),
  ]
  const people = [
    ['anna', 'Anna Martini', '1001'], ['bruno', 'Bruno Galli', '1002'], ['op3', 'Chiara Fontana', '1003'], ['op4', 'Davide Moretti', '1004'],
    ['op5', 'Elisabetta Alessandra Montecuccoli della Torre', '1005'], ['op6', 'Fabio Greco', '1006'],
  ]
  const person = (name) => { const p = people.find((x) => x[0] === name); return p ? { name, display_name: p[1] } : name === 'carla' ? { name, display_name: 'Carla Neri' } : null }
  const seat = (name, declared, reason, since, doing = 'idle', doingSince = since, more = {}) => {
    const p = people.find((x) => x[0] === name)
    return { operator: name, display_name: p?.[1] ?? 'Carla Neri', extension: p?.[2] ?? null, declared, reason, declared_at: ago(since), doing, doing_at: ago(doingSince), doing_until: null, contact_id: null, ticket: null, forced_by: '', can_ring: true, cannot_ring_why: '', topics: [1, 2, 3, 4], version: 1, ...more }
  }
  const seats = new Map([
    ['anna', seat('anna', 'available', '', 723)],
    ['bruno', seat('bruno', 'available', '', 5400, 'talking', 194, { ticket: '2026-119', doing_until: hence(3600) })],
    ['op3', seat('op3', 'break', 'Pranzo', 1260, 'idle', 1260, { forced_by: 'Carla Neri' })],
    ['op4', seat('op4', 'available', '', 8100, 'wrapping', 22, { ticket: '2026-118', doing_until: hence(38) })],
    ['op5', seat('op5', 'admin', '', 2411, 'idle', 2411, { can_ring: false, cannot_ring_why: 'Il telefono 1005 non è registrato.', topics: [3] })],
    ['op6', seat('op6', 'off', '', 52000, 'idle', 52000, { can_ring: false })],
  ])
  if (as === 'carla') seats.set('carla', seat('carla', 'off', '', 900, 'idle', 900, { can_ring: false }))
  const me = as === 'carla'
    ? { id: 9, name: 'carla', display_name: 'Carla Neri', role: 'supervisor', extension: null, wrap_up: 60 }
    : { id: 1, name: 'anna', display_name: 'Anna Martini', role: 'operator', extension: '1001', wrap_up: 60 }

  const subjects = [
    ['Il certificato di malattia non parte: errore 502', 2, 1], ['Ricetta dematerializzata rifiutata', 1, 2], ['La carta operatore non viene letta', 3, 1],
    ['Non vedo gli assistiti trasferiti a febbraio', 1, 2], ['Collegamento al Fascicolo lento da stamattina', 3, 2], ['Chiede quando arriva il nuovo lettore', 4, 2],
    ['Aggiornamento della cartella fermo al 43 %', 1, 1], ['PIN della tessera bloccato dopo tre tentativi', 3, 1], ['Certificato di gravidanza: manca la data presunta del parto nel modulo che si stampa per il datore di lavoro, e il campo resta vuoto anche dopo il riavvio', 2, 2],
    ['', 1, 2],
  ]
  const tickets = new Map()
  for (let n = 121; n > 0; n--) {
    const [subject, topic, urgency] = subjects[n % subjects.length]
    const c = n % 7 === 0 ? null : customers[n % customers.length]
    const closed = n < 96 && n % 9 !== 0
    const owner = closed ? person(people[n % 4][0]) : n % 3 === 0 ? null : n % 3 === 1 ? person('anna') : person(people[1 + (n % 3)][0])
    const received = ago((122 - n) * 5400 + 600)
    tickets.set(`2026-${n}`, {
      number: `2026-${n}`, status: closed ? 'closed' : owner ? 'in_charge' : 'open', subject, description: n % 2 ? 'Succede su tutti e due i PC dello studio. Già riavviato.' : '',
      call_type: 'intervento', topic: topics[topic - 1], urgency, fault_type: urgency === 1 ? 'bloccante' : '', channel: n % 11 === 0 ? 'voicemail' : 'phone',
      customer: c, requester_name: c?.name ?? '', requester_number: c?.numbers[0] ?? '+393331122334', practice: c?.practice ?? '', authority: c?.authority ?? '',
      outcome: closed ? 'risolto' : '', solution: closed ? 'Reinstallato il certificato del lettore.' : '', owner, received_at: received, opened_at: received,
      taken_at: owner ? received : null, closed_at: closed ? ago((122 - n) * 5400 - 900) : null, closed_by: closed ? owner : null, version: 1,
    })
  }
  const notes = new Map()
  const messages = [
    { who: customers[1], s: 3100, ms: 47_000, state: 'new', ticket: '2026-110' },
    { who: null, caller: '+393391122334', s: 41_000, ms: 12_400, state: 'new', ticket: '2026-99' },
    { who: customers[3], s: 47_500, ms: 178_000, state: 'taken', by: 'Bruno Galli', ticket: '2026-98' },
    { who: null, caller: '', s: 90_000, ms: 8_000, state: 'heard', ticket: '2026-88' },
  ].map((m) => ({ id: randomUUID(), contact_id: randomUUID(), ticket: m.ticket, caller: m.who?.numbers[0] ?? m.caller, name: m.who?.name ?? '', service: 'Assistenza medici', received_at: ago(m.s), length_ms: m.ms, sound_ms: m.ms - 1500, state: m.state, taken_by: m.by ?? '' }))

  const contact = (c, more = {}) => ({
    id: randomUUID(), call_id: randomUUID(), channel: 'phone', caller: c?.numbers[0] ?? '+393331122334', caller_source: 'asserted', dialled: '800123456', service: 'Assistenza medici',
    customer: c ?? null, match: c ? 'certain' : 'none', topic: topics[0], urgency: 2, t0: ago(95), ta: ago(95), ts: ago(80), tq: ago(80), tr: ago(3), tc: null, te: null, tw: null, tk: null,
    ending: null, ticket: null, operator: null, number_told: true, ring_back: null, direction: 'inbound', outcome: '', settings_version: 1, has_recording: false, ...more,
  })
  let ringBacks = [
    contact(customers[4], { t0: ago(2300), te: ago(2100), ending: 'abandoned_queue', ring_back: 'due', ticket: '2026-112', urgency: 1, topic: topics[1] }),
    contact(null, { t0: ago(9000), te: ago(8990), ending: 'abandoned_ivr', ring_back: 'due', topic: null, urgency: null }),
    contact(customers[3], { t0: ago(91000), te: ago(90800), ending: 'system_fault', ring_back: 'due', ticket: '2026-104' }),
  ]
  let waiting = [
    { contact_id: randomUUID(), caller: '+390557654321', name: '', topic: topics[0], urgency: 2, t0: ago(245), joined_at: ago(221), state: 'waiting', callback: false, next_at: null, position: 1, expected: 140 },
    { contact_id: randomUUID(), caller: '+390587123456', name: customers[3].name, topic: topics[1], urgency: 1, t0: ago(61), joined_at: ago(40), state: 'offered', callback: false, next_at: null, position: 0, expected: null },
    { contact_id: randomUUID(), caller: '', name: '', topic: topics[2], urgency: 2, t0: ago(33), joined_at: ago(12), state: 'waiting', callback: false, next_at: null, position: 1, expected: null },
    { contact_id: randomUUID(), caller: '+39055445566', name: 'Paolo Conti', topic: topics[1], urgency: 2, t0: ago(2900), joined_at: ago(2880), state: 'waiting', callback: true, next_at: ago(2700), position: 2, expected: 310 },
    { contact_id: randomUUID(), caller: '+390551234567', name: 'Mario Rossi', topic: topics[0], urgency: 2, t0: ago(1500), joined_at: ago(1480), state: 'waiting', callback: true, next_at: hence(640), position: 0, expected: null },
  ]
  const attempt = (s, by, outcome) => ({ contact_id: randomUUID(), at: ago(s), by, outcome })
  const callback = (c, more = {}) => ({
    id: randomUUID(), contact_id: randomUUID(), ticket: '2026-115', origin: 'queue', number: c?.numbers[0] ?? '+393331122334', name: c?.name ?? '', service: 'Assistenza medici',
    topic: topics[0], urgency: 2, t0: ago(2900), asked_at: ago(2850), booked_at: ago(2850), booked_by: null, state: 'waiting', next_at: ago(2850), attempts: [], outcome: null,
    ended_at: null, within_an_hour: null, out_of_time: false, ...more,
  })
  let callbacks = [
    callback(customers[4], { topic: topics[1], urgency: 1, state: 'dialling' }),
    callback(customers[0], { attempts: [attempt(1100, 'Anna Martini', 'no_answer'), attempt(200, 'Elisabetta Alessandra Montecuccoli della Torre', 'busy')], next_at: hence(640), within_an_hour: true, ticket: '2026-111' }),
    callback(customers[3], { origin: 'lost', booked_by: person('bruno'), t0: ago(9000), out_of_time: true, ticket: null }),
    callback(null, { origin: 'fault', topic: null, state: 'ringing' }),
  ]
  let pop = null
  let timer
  let faults = { patch: '', list: false, me: false, messages: false }

  // The socket

  const epoch = randomUUID()
  let seq = 0
  const log = []
  const sockets = new Set()
  const wss = new WebSocketServer({ noServer: true })
  let ticking = true
  const due = () => ringBacks.length
  const fresh = () => messages.filter((m) => m.state === 'new').length
  const state = () => ({ me, seat: seats.get(me.name) ?? null, operators: [...seats.values()], waiting, pop, messages_new: fresh(), ringbacks_due: due(), callbacks_open: callbacks.length, can_dial: true, cannot_dial_why: '', now: new Date().toISOString() })
  function tell(kind, data) {
    seq++
    log.push({ seq, kind, data })
    for (const s of sockets) {
      if (!s.greeted) continue
      s.send(JSON.stringify({ type: 'event', seq, prev: s.last, kind, data }))
      s.last = seq
    }
  }
  wss.on('connection', (s) => {
    sockets.add(s)
    s.on('close', () => sockets.delete(s))
    s.on('message', (raw) => {
      const m = JSON.parse(String(raw))
      if (m.type === 'hello' && m.epoch === epoch && m.seq <= seq) {
        s.send(JSON.stringify({ type: 'resumed', epoch, seq: m.seq }))
        s.last = m.seq
        for (const e of log.filter((e) => e.seq > m.seq)) {
          s.send(JSON.stringify({ type: 'event', seq: e.seq, prev: s.last, kind: e.kind, data: e.data }))
          s.last = e.seq
        }
        s.greeted = true
      } else if (m.type === 'hello' || m.type === 'snapshot') {
        s.send(JSON.stringify({ type: 'snapshot', epoch, seq, state: state() }))
        s.last = seq
        s.greeted = true
      } else if (m.type === 'painted') painted.push(m.offer)
    })
  })
  const painted = []
  const ticker = setInterval(() => { if (ticking) for (const s of sockets) s.send(JSON.stringify({ type: 'tick', at: new Date().toISOString() })) }, 5000)

  const setSeat = (name, change) => {
    const next = { ...seats.get(name), ...change }
    next.version++
    seats.set(name, next)
    tell('seat', next)
    return next
  }
  const setTicket = (number, change) => {
    const next = { ...tickets.get(number), ...change }
    next.version++
    tickets.set(number, next)
    if (pop?.ticket.number === number) pop = { ...pop, ticket: next }
    tell('ticket', next)
    return next
  }

  // Scenes

  let serial = 121
  function ring({ kind = 'certain', urgency = 2, topic = 1, told = true, open = true, seconds = 20 } = {}) {
    clearTimeout(timer)
    const number = `2026-${++serial}`
    const who = kind === 'certain' ? [customers[0]] : kind === 'long' ? [customers[3]] : kind === 'several' ? [customers[1], customers[2]] : []
    const sure = kind === 'long' ? 'certain' : kind === 'unknown' ? 'none' : kind
    const one = who.length === 1 ? who[0] : null
    const caller = kind === 'withheld' ? '' : (who[0]?.numbers[0] ?? '+393289876543')
    const c = contact(one, { caller, match: sure, topic: topics[topic - 1], urgency, ticket: number, number_told: told, t0: ago(95) })
    const received = c.t0
    tickets.set(number, {
      number, status: 'open', subject: '', description: '', call_type: 'intervento', topic: topics[topic - 1], urgency, fault_type: '', channel: 'phone', customer: one,
      requester_name: one?.name ?? '', requester_number: caller, practice: one?.practice ?? '', authority: one?.authority ?? '', outcome: '', solution: '', owner: null,
      received_at: received, opened_at: received, taken_at: null, closed_at: null, closed_by: null, version: 1,
    })
    const why = {
      certain: 'Il numero è nell’anagrafica di un solo medico.', several: 'Il numero è di 2 medici dello stesso ambulatorio.',
      none: 'Il numero non è nell’anagrafica.', withheld: 'Chi chiama ha nascosto il numero.',
    }[sure]
    const mine = open && one ? [...tickets.values()].filter((t) => t.customer?.id === one.id && t.status !== 'closed' && t.number !== number).slice(0, 3) : []
    pop = { offer: { id: randomUUID(), offered_at: ago(0), expires_at: hence(seconds) }, contact: c, match: { sure, why, customers: who }, open_tickets: mine, calls_today: one ? 2 : 1, ticket: tickets.get(number), callback: null }
    setSeat('anna', { doing: 'offered', doing_at: ago(0), doing_until: hence(seconds), contact_id: c.id, ticket: number })
    tell('call.offered', pop)
    timer = setTimeout(() => scenes.miss(), seconds * 1000)
  }
  const scenes = {
    ring,
    answer() {
      clearTimeout(timer)
      pop = { ...pop, offer: null, contact: { ...pop.contact, tc: ago(0) } }
      setTicket(pop.ticket.number, { status: 'in_charge', owner: person('anna'), taken_at: ago(0) })
      setSeat('anna', { doing: 'talking', doing_at: ago(0), doing_until: hence(7200) })
      tell('call.talking', pop)
    },
    hangup({ seconds = 60 } = {}) {
      pop = { ...pop, contact: { ...pop.contact, te: ago(0), ending: 'served' } }
      tell('call.ended', { contact_id: pop.contact.id, ending: 'served' })
      setSeat('anna', { doing: 'wrapping', doing_at: ago(0), doing_until: hence(seconds) })
      clearTimeout(timer)
      timer = setTimeout(() => scenes.free(), seconds * 1000)
    },
    free() {
      clearTimeout(timer)
      pop = null
      tell('pop.cleared', {})
      setSeat('anna', { doing: 'idle', doing_at: ago(0), doing_until: null, contact_id: null, ticket: null })
    },
    miss({ reason = 'missed' } = {}) {
      clearTimeout(timer)
      pop = null
      setSeat('anna', { declared: 'break', reason, declared_at: ago(0), doing: 'idle', doing_at: ago(0), doing_until: null, contact_id: null, ticket: null })
      tell('pop.cleared', {})
    },
    abandon() {
      clearTimeout(timer)
      tell('call.ended', { contact_id: pop.contact.id, ending: 'abandoned_queue' })
      pop = null
      tell('pop.cleared', {})
      setSeat('anna', { doing: 'idle', doing_at: ago(0), doing_until: null, contact_id: null, ticket: null })
    },
    told() { pop = { ...pop, contact: { ...pop.contact, number_told: true } }; tell('call.talking', pop) },
    /** bruno writes in anna's ticket */
    meddle({ field = 'subject', value = 'Certificato bloccato: già segnalato ieri', number } = {}) { setTicket(number ?? pop.ticket.number, { [field]: value }); meddled.set(field, { by: 'Bruno Galli', at: ago(0) }) },
    state(change) { setSeat('anna', { ...change, declared_at: ago(change.since ?? 61), doing_at: ago(change.since ?? 61) }) },
    quiet() { waiting = []; tell('waiting', { items: [] }) },
    empty() { tickets.clear(); messages.length = 0; ringBacks = []; callbacks = []; waiting = []; tell('waiting', { items: [] }); tell('messages', { new: 0 }); tell('ringbacks', { due: 0, callbacks: 0 }) },
    faults(f) { faults = { ...faults, ...f } },
    stale({ away = true } = {}) { for (const s of sockets) s.send(JSON.stringify({ type: 'tick', at: new Date().toISOString(), away })) },
    drop() { down = true; ticking = false; for (const s of sockets) s.terminate() },
    back() { down = false; ticking = true },
    /** one event is lost on the way */
    gap() { seq++; log.push({ seq, kind: 'messages', data: { new: fresh() } }); for (const s of sockets) s.last = seq },
    signout() { for (const s of sockets) s.close(4401, 'signed out'); faults.me = true },
  }
  const meddled = new Map()
  let down = false

  // HTTP

  const tone = wav()
  const problem = (status, detail, more = {}) => ({ status, body: { title: 'Problema', status, detail, ...more } })
  const ok = (body) => ({ status: 200, body })
  const none = { status: 204 }

  async function api(method, path, params, body) {
    const [a, b, c] = path.split('/').map(decodeURIComponent)
    if (faults.me) return problem(401, 'Accedi di nuovo.')
    if (a === 'me') return ok(me)
    if (a === 'snapshot') return ok(state())
    if (a === 'topics') return ok({ items: topics })
    if (a === 'call-types') return ok({ items: callTypes })
    if (a === 'operators') {
      if (!b) return ok({ items: [...seats.values()] })
      if (c === 'state') {
        if (body.declared === 'available' && !seats.get(b).can_ring) return problem(409, 'Il telefono 1001 non è registrato: non può squillare.')
        const s = seats.get(b)
        const ends = body.declared === 'available' && s.doing === 'wrapping'
        if (ends) { clearTimeout(timer); pop = null; tell('pop.cleared', {}) }
        return ok(setSeat(b, { declared: body.declared, reason: body.reason ?? '', declared_at: ago(0), forced_by: b === me.name ? '' : me.display_name, ...(ends ? { doing: 'idle', doing_at: ago(0), doing_until: null } : {}) }))
      }
      if (c === 'wrapup') {
        const until = new Date(Date.parse(seats.get(b).doing_until) + body.extend * 1000).toISOString()
        clearTimeout(timer)
        timer = setTimeout(() => scenes.free(), Date.parse(until) - Date.now())
        return ok(setSeat(b, { doing_until: until }))
      }
    }
    if (a === 'offers') {
      if (c === 'painted') { painted.push(b); return none }
      if (pop?.offer?.id !== b) return problem(409, 'La chiamata non è più offerta.')
      clearTimeout(timer)
      pop = null
      setSeat('anna', { doing: 'idle', doing_at: ago(0), doing_until: null, contact_id: null, ticket: null })
      tell('pop.cleared', {})
      return none
    }
    if (a === 'tickets' && !b) {
      if (faults.list) return problem(503, 'La banca dati non risponde. Riprova tra poco.')
      const q = (params.get('q') ?? '').toLowerCase()
      const limit = Number(params.get('limit') ?? 50)
      const all = [...tickets.values()].sort((x, y) => Number(y.number.slice(5)) - Number(x.number.slice(5))).filter((t) =>
        (params.get('status') === 'all' || (params.get('status') === 'closed') === (t.status === 'closed')) &&
        (!params.get('owner') || (params.get('owner') === 'me' ? t.owner?.name === me.name : !t.owner)) &&
        (!q || [t.number, t.subject, t.requester_name].some((x) => x.toLowerCase().includes(q))))
      const from = Number(params.get('cursor') ?? 0)
      return ok({ items: all.slice(from, from + limit), next: from + limit < all.length ? String(from + limit) : null })
    }
    if (a === 'tickets') {
      const t = tickets.get(b)
      if (!t) return problem(404, 'Questo ticket non esiste.')
      if (!c && method === 'GET') return ok(page(t))
      if (!c && method === 'PATCH') {
        if (faults.patch === 'away') return problem(503, 'La banca dati non risponde. Riprova tra poco.')
        if (faults.patch === 'refuse') return problem(422, 'Il numero di telefono non è valido.')
        const flat = { ...t, topic: t.topic?.id ?? null, customer: t.customer?.id ?? null }
        const conflicts = {}
        for (const f of Object.keys(body.set)) if (JSON.stringify(flat[f]) !== JSON.stringify(body.base[f] ?? null) && !(flat[f] === '' && body.base[f] === '')) conflicts[f] = { current: flat[f], ...(meddled.get(f) ?? { by: 'Bruno Galli', at: ago(2) }) }
        if (Object.keys(conflicts).length) return problem(409, 'Il ticket è cambiato nel frattempo.', { conflicts })
        const set = { ...body.set }
        if ('topic' in set) set.topic = topics.find((x) => x.id === set.topic) ?? null
        if ('customer' in set) set.customer = customers.find((x) => x.id === set.customer) ?? null
        return ok(setTicket(b, set))
      }
      if (c === 'take') return ok(setTicket(b, { owner: person(me.name), status: 'in_charge', taken_at: ago(0) }))
      if (c === 'notes') {
        notes.set(b, [...(notes.get(b) ?? []), { id: Date.now(), at: ago(0), by: person(me.name), text: body.text }])
        return ok(setTicket(b, {}))
      }
      if (c === 'close') return ok(setTicket(b, { status: 'closed', outcome: body.outcome, solution: body.solution, closed_at: ago(0), closed_by: person(me.name), owner: t.owner ?? person(me.name) }))
      if (c === 'reopen') return ok(setTicket(b, { status: t.owner ? 'in_charge' : 'open', closed_at: null, closed_by: null, outcome: '' }))
    }
    if (a === 'messages') {
      if (faults.messages) return problem(503, 'La banca dati non risponde. Riprova tra poco.')
      if (!b) return ok({ items: messages.filter((m) => params.get('state') === 'all' || m.state === 'new') })
      const m = messages.find((x) => x.id === b)
      if (c === 'take') Object.assign(m, { state: 'taken', taken_by: person(me.name).display_name })
      else if (m.state === 'new') m.state = 'heard'
      tell('messages', { new: fresh() })
      return ok(m)
    }
    if (a === 'ringbacks') {
      if (!b) return ok({ items: ringBacks })
      const found = ringBacks.find((x) => x.id === b)
      if (!found) return problem(409, 'Qualcuno è stato più veloce.')
      ringBacks = ringBacks.filter((x) => x.id !== b)
      tell('ringbacks', { due: due(), callbacks: callbacks.length })
      return ok({ ...found, ring_back: 'taken' })
    }
    if (a === 'callbacks') {
      if (b === 'figures') {
        if (!(params.get('from') < params.get('to'))) return problem(422, 'Il periodo finisce dopo il suo inizio e dura al massimo un anno.', { field: 'to' })
        return ok({
          definition: 'callbacks/2', from: params.get('from'), to: params.get('to'), asked: 31, attempted: 27, attempts: 38, reached: 22, served: 3, not_reached: 2, cancelled: 1, open: 3,
          within: 25, within_share: 0.8929, never_attempted: 1, working_minutes: 60, calendars: [{ service: 'Assistenza medici', version: 4 }],
          outcomes: [['reached', 22], ['no_answer', 11], ['busy', 4], ['wrong_number', 1]].map(([code, count]) => ({ code, count })),
        })
      }
      if (!b) return ok({ items: callbacks })
      callbacks = callbacks.filter((x) => x.id !== b)
      tell('ringbacks', { due: due(), callbacks: callbacks.length })
      return none
    }
    if (a === 'figures') {
      const rows = topics.map((t, i) => ({ topic: t.id, received: 40 - 9 * i, answered: 34 - 8 * i, abandoned: 3 - i }))
      return ok({ definition: 'today/1', from: ago(40_000), received: 131, answered: 88, abandoned: 6, short_abandoned: 2, short_seconds: 5, topics: rows })
    }
    if (a === 'search') {
      const q = (params.get('q') ?? '').toLowerCase()
      const has = (...texts) => q !== '' && texts.some((x) => x.toLowerCase().includes(q))
      const page = (items, key) => (!params.get('in') || params.get('in') === key ? { items, near: [], next: null } : { items: [], near: [], next: null })
      const found = [...tickets.values()].filter((t) => has(t.number, t.subject, t.requester_name)).slice(0, 10)
      const doctors = customers.filter((c) => has(c.name, c.practice, ...c.numbers))
      return ok({
        tickets: page(found, 'tickets'), people: page(doctors, 'people'),
        numbers: page(doctors.flatMap((c) => c.numbers.map((number) => ({ number, people: [c], calls: 3, last_call: ago(90_000) }))), 'numbers'),
      })
    }
    return problem(404, 'Non trovato.')
  }

  function page(t) {
    const at = (s) => new Date(Date.parse(t.received_at) + s * 1000).toISOString()
    const c = contact(t.customer, { t0: t.received_at, tc: at(84), te: at(331), ending: 'served', ticket: t.number, operator: 'bruno', caller: t.requester_number })
    const c2 = contact(t.customer, { t0: at(9000), te: at(9065), ending: 'voicemail', ticket: t.number, has_recording: true, caller: t.requester_number })
    const line = (s, kind, text, by = '', more = {}) => ({ at: at(s), kind, text, by, contact_id: null, has_recording: false, ending: null, ...more })
    const old = t.number.length < 8 || Number(t.number.slice(5)) < 122
    return {
      ...t,
      timeline: [
        line(0, 'begun', 'Chiamata ricevuta', '', { contact_id: c.id }), line(24, 'opened', 'Ticket aperto', ''), line(31, 'told', 'Numero comunicato a chi chiama'),
        ...(old ? [line(84, 'talking', 'In conversazione', 'Bruno Galli', { contact_id: c.id }), line(331, 'ended', 'Fine della chiamata', '', { contact_id: c.id, ending: 'served' }),
          line(340, 'edited', 'Modificati: oggetto, descrizione', 'Bruno Galli'), line(9065, 'recorded', 'Messaggio in segreteria, 0:47', '', { contact_id: c2.id, has_recording: true, ending: 'voicemail' })] : []),
        ...(t.closed_at ? [{ ...line(0, 'closed', 'Chiuso: Risolto', t.closed_by?.display_name ?? ''), at: t.closed_at }] : []),
      ],
      contacts: old ? [c2, c] : [c],
      notes: [...(old ? [{ id: 1, at: at(2000), by: person('op4'), text: 'Sentito il fornitore del lettore: sostituzione prevista giovedì.\nRichiamare il medico dopo le 15.' }] : []), ...(notes.get(t.number) ?? [])],
    }
  }

  const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.woff2': 'font/woff2', '.txt': 'text/plain; charset=utf-8' }
  const server = createServer(async (req, res) => {
    const url = new URL(req.url, 'http://desk')
    const chunks = []
    for await (const chunk of req) chunks.push(chunk)
    const text = Buffer.concat(chunks).toString()
    const body = text.startsWith('{') ? JSON.parse(text) : {}
    const send = (status, type, data) => { res.writeHead(status, { 'Content-Type': type, 'Content-Security-Policy': POLICY }); res.end(data) }
    if (url.pathname.startsWith('/dev/')) {
      const scene = scenes[url.pathname.slice(5)]
      if (!scene) return send(404, 'text/plain', 'no such scene')
      scene(body)
      return send(200, 'application/json', JSON.stringify({ painted }))
    }
    if (url.pathname.startsWith('/api/v1/')) {
      if (down) return void req.socket.destroy()
      if (url.pathname.endsWith('/recording')) return send(200, 'audio/wav', tone)
      const answer = await api(req.method, url.pathname.slice(8), url.searchParams, body)
      return send(answer.status, answer.status < 400 ? 'application/json' : 'application/problem+json', answer.body ? JSON.stringify(answer.body) : '')
    }
    if (url.pathname === '/signin') return send(200, types['.html'], '<!doctype html><title>Accedi</title><h1>Accedi</h1>')
    const file = join(dist, url.pathname === '/' ? 'index.html' : url.pathname)
    if (!file.startsWith(dist) || !existsSync(file)) return send(404, 'text/plain', 'not found')
    send(200, types[extname(file)] ?? 'application/octet-stream', readFileSync(file))
  })
  server.on('upgrade', (req, socket, head) => {
    if (down || faults.me) return socket.destroy()
    wss.handleUpgrade(req, socket, head, (s) => wss.emit('connection', s, req))
  })
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve({
    url: `http://127.0.0.1:${server.address().port}`, scenes, painted,
    stop: () => { clearInterval(ticker); clearTimeout(timer); for (const s of sockets) s.terminate(); server.closeAllConnections(); server.close() },
  })))
}

/** Two seconds of a falling tone, 8 kHz, 16 bit. */
function wav() {
  const n = 16_000
  const b = Buffer.alloc(44 + n * 2)
  b.write('RIFF', 0); b.writeUInt32LE(36 + n * 2, 4); b.write('WAVEfmt ', 8); b.writeUInt32LE(16, 16); b.writeUInt16LE(1, 20); b.writeUInt16LE(1, 22)
  b.writeUInt32LE(8000, 24); b.writeUInt32LE(16_000, 28); b.writeUInt16LE(2, 32); b.writeUInt16LE(16, 34); b.write('data', 36); b.writeUInt32LE(n * 2, 40)
  for (let i = 0; i < n; i++) b.writeInt16LE(Math.round(8000 * Math.sin((2 * Math.PI * (600 - i / 80) * i) / 8000)), 44 + i * 2)
  return b
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await mock(Number(process.argv[2] ?? 8099), { as: process.argv[3] ?? 'anna' })
  console.log(`${url}/ – scenes: curl -X POST ${url}/dev/ring -d '{"kind":"several"}', answer, hangup, miss, meddle, drop, back …`)
}
