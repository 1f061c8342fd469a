import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { fireEvent, render, screen, waitFor, within } from '@testing-library/svelte'
import App from './App.svelte'
import Quality from './parts/Quality.svelte'
import { desk } from './desk.svelte'
import { nothing } from './reducer'
import type { Callback, FromServer, Seat, State, Ticket, ToServer } from './contract'
import { contact, me, pop, seat, state, ticket } from './testing/samples'

/** The server's end: what was asked over HTTP, and a socket to speak through. */
let asked: { method: string; path: string; body: unknown }[]
let answers: Record<string, (body: Record<string, Record<string, unknown>>) => [number, unknown]>
let socket: FakeSocket
let seq: number

class FakeSocket {
  sent: ToServer[] = []
  onopen: (() => void) | null = null
  onmessage: ((e: { data: string }) => void) | null = null
  onclose: ((e: { code: number }) => void) | null = null
  constructor() {
    socket = this
    queueMicrotask(() => this.onopen?.())
  }
  send(data: string) {
    this.sent.push(JSON.parse(data) as ToServer)
  }
  close() {}
  say(m: FromServer) {
    this.onmessage?.({ data: JSON.stringify(m) })
  }
}

function tell(kind: string, data: unknown) {
  seq++
  socket.say({ type: 'event', seq, prev: seq - 1, kind, data } as FromServer)
}

const fetched = (async (url: string, init: RequestInit = {}) => {
  const path = url.replace('/api/v1', '')
  const method = init.method ?? 'GET'
  const body = init.body ? JSON.parse(String(init.body)) : undefined
  asked.push({ method, path, body })
  const answer = answers[`${method} ${path.split('?')[0]}`]
  const [status, json] = answer ? answer(body) : [404, { detail: '' }]
  return new Response(status === 204 ? null : JSON.stringify(json), { status })
}) as typeof fetch

async function start(more: Partial<State> = {}) {
  render(App)
  await waitFor(() => expect(socket?.sent[0]).toMatchObject({ type: 'hello' }))
  socket.say({ type: 'snapshot', epoch: 'e', seq, state: state({ now: new Date().toISOString(), ...more }) })
  await screen.findByRole('main')
}

const soon = (s: number) => new Date(Date.now() + s * 1000).toISOString()
const ringing = (more = {}) => pop({ offer: { id: 'o1', offered_at: soon(0), expires_at: soon(20) }, ...more })
const talk = () => {
  tell('seat', seat({ doing: 'talking', version: 2, doing_until: soon(3600) }))
  tell('call.talking', pop({ offer: null, contact: contact({ tc: soon(0) }) }))
}

beforeEach(() => {
  localStorage.clear()
  location.hash = ''
  asked = []
  seq = 10
  let current: Ticket = ticket()
  answers = {
    'GET /me': () => [200, me],
    'GET /topics': () => [200, { items: [{ id: 2, code: 'certificati', name: 'Certificati' }] }],
    'GET /call-types': () => [200, { items: [{ code: 'intervento', name: 'Richiesta di intervento' }] }],
    'GET /tickets': () => [200, { items: [], next: null }],
    'GET /tickets/2026-1': () => [200, { ...current, timeline: [], contacts: [], notes: [] }],
    'PATCH /tickets/2026-1': (b) => [200, (current = { ...current, ...b['set'], topic: current.topic, version: current.version + 1 } as Ticket)],
    'POST /tickets/2026-1/close': (b) => [200, (current = { ...current, status: 'closed', outcome: String(b['outcome']), version: current.version + 1 })],
    'PUT /operators/anna/state': (b) => [200, seat({ declared: String(b['declared']) as 'break', reason: String(b['reason']), version: 9 })],
    'POST /offers/o1/decline': () => [204, null],
  }
  vi.stubGlobal('WebSocket', FakeSocket)
  vi.stubGlobal('fetch', fetched)
  vi.spyOn(window, 'scrollTo').mockImplementation(() => undefined)
})
afterEach(() => {
  desk.stop()
  Object.assign(desk, { model: nothing, tickets: new Map(), card: null, bench: [], lastPop: null, missed: null, notice: null, assertive: '', polite: '', signedOut: false, broken: false, light: 'reconnecting', user: '', paintedOffer: '', stood: '' })
  ;(desk['drafts'] as Map<string, unknown>).clear()
  vi.unstubAllGlobals()
})

describe('a call rings', () => {
  test('it is on the page, said aloud, in the title, and acknowledged once', async () => {
    await start()
    tell('call.offered', ringing())
    const who = await screen.findByRole('region', { name: 'Chi chiama' })
    expect(within(who).getByText('Mario Rossi')).toBeTruthy()
    expect(within(who).getByText('Riconoscimento certo')).toBeTruthy()
    expect(screen.getByText('Solleva la cornetta del telefono 1001')).toBeTruthy()
    expect(screen.getByText('Numero da comunicare:')).toBeTruthy()
    const spoken = document.querySelector('[aria-live=assertive]')?.textContent
    expect(spoken).toContain('Squillo. Mario Rossi')
    expect(spoken).toContain('Solleva la cornetta del telefono 1001')
    await waitFor(() => expect(document.title).toContain('Squillo: Mario Rossi'))
    await waitFor(() => expect(socket.sent).toContainEqual({ type: 'painted', offer: 'o1' }))
    tell('ticket', ticket({ version: 2, subject: 'x' }))
    await new Promise((r) => setTimeout(r, 150))
    expect(socket.sent.filter((m) => m.type === 'painted')).toHaveLength(1)
  })

  test('a hidden tab, which paints no frames, acknowledges too', async () => {
    vi.stubGlobal('requestAnimationFrame', () => 0)
    await start()
    tell('call.offered', ringing())
    await waitFor(() => expect(socket.sent).toContainEqual({ type: 'painted', offer: 'o1' }))
  })

  test('Shift+F2 declines', async () => {
    await start()
    tell('call.offered', ringing())
    await screen.findByRole('button', { name: /Rifiuta/ })
    await fireEvent.keyDown(window, { key: 'F2', shiftKey: true })
    await waitFor(() => expect(asked).toContainEqual({ method: 'POST', path: '/offers/o1/decline', body: undefined }))
    await waitFor(() => expect(screen.queryByRole('button', { name: /Rifiuta/ })).toBeNull())
  })

  test('numbers that are not known say so', async () => {
    await start()
    tell('call.offered', ringing({ match: { sure: 'none', why: '', customers: [] }, contact: contact({ match: 'none' }) }))
    const who = await screen.findByRole('region', { name: 'Chi chiama' })
    expect(within(who).getByText('Numero sconosciuto')).toBeTruthy()
    expect(within(who).getByText('+39 055 1234567')).toBeTruthy()
    tell('call.offered', ringing({ match: { sure: 'withheld', why: '', customers: [] }, contact: contact({ match: 'withheld', caller: '' }) }))
    await within(who).findByText('Numero nascosto')
  })

  test('nobody answered: the banner leads back', async () => {
    await start()
    tell('call.offered', ringing())
    tell('seat', seat({ declared: 'break', reason: 'missed', version: 3 }))
    tell('pop.cleared', {})
    await screen.findByText(/La chiamata \(Mario Rossi\) non ha avuto risposta/)
    await fireEvent.click(screen.getByRole('button', { name: 'Torna disponibile' }))
    await waitFor(() => expect(asked).toContainEqual({ method: 'PUT', path: '/operators/anna/state', body: { declared: 'available', reason: '' } }))
  })

  test('on another page a strip shows it, and lifting the handset brings the ticket', async () => {
    location.hash = '#/richiamare'
    await start()
    tell('call.offered', ringing())
    await screen.findByRole('link', { name: 'Apri la postazione' })
    expect(location.hash).toBe('#/richiamare')
    talk()
    await screen.findByLabelText('Oggetto')
    expect(location.hash).toBe('#/')
  })
})

describe('the system’s notification', () => {
  class FakeNotification {
    static permission = 'default'
    static requestPermission = vi.fn(() => new Promise(() => undefined)) // never answered
    static shown: FakeNotification[] = []
    onclick: (() => void) | null = null
    close = vi.fn()
    constructor(readonly title: string, readonly options: NotificationOptions) {
      FakeNotification.shown.push(this)
    }
  }
  beforeEach(() => {
    FakeNotification.shown = []
    vi.stubGlobal('Notification', FakeNotification)
  })
  afterEach(() => vi.restoreAllMocks())

  test('is asked for by the first click on Disponibile, which does not wait for it', async () => {
    await start({ seat: seat({ declared: 'off' }) })
    const button = screen.getByRole('button', { name: 'Diventa disponibile' })
    expect(FakeNotification.requestPermission).not.toHaveBeenCalled()
    await fireEvent.click(button)
    await waitFor(() => expect(asked.some((a) => a.method === 'PUT')).toBe(true))
    expect(FakeNotification.requestPermission).toHaveBeenCalledTimes(1)
    expect(await desk.choose('available')).toBe(true)
    expect(FakeNotification.requestPermission).toHaveBeenCalledTimes(1)
  })

  test('shows a call while the page is hidden, and goes with it', async () => {
    FakeNotification.permission = 'granted'
    await start()
    tell('call.offered', ringing())
    expect(FakeNotification.shown).toHaveLength(0) // the page itself is in sight
    vi.spyOn(document, 'visibilityState', 'get').mockReturnValue('hidden')
    tell('call.offered', ringing({ offer: { id: 'o2', offered_at: soon(0), expires_at: soon(20) } }))
    expect(FakeNotification.shown.map((n) => [n.title, n.options.body])).toEqual([['Squillo: Mario Rossi', 'Certificati']])
    tell('pop.cleared', {})
    expect(FakeNotification.shown[0]?.close).toHaveBeenCalled()
  })

  test('a refused permission shows nothing', async () => {
    FakeNotification.permission = 'denied'
    await start()
    vi.spyOn(document, 'visibilityState', 'get').mockReturnValue('hidden')
    tell('call.offered', ringing())
    expect(FakeNotification.shown).toHaveLength(0)
  })
})

test('who holds a caller is not told to hang up: that sends the caller back to the queue', async () => {
  await start()
  talk()
  expect(await screen.findByText('Per chiudere, riaggancia la cornetta.')).toBeTruthy()
  tell('seat', seat({ doing: 'talking', talk: 'held', version: 3, doing_until: soon(3600) }))
  expect(await screen.findByText(/Se riagganci, chi è in linea torna in coda/)).toBeTruthy()
  expect(screen.queryByText('Per chiudere, riaggancia la cornetta.')).toBeNull()
})

test('a talk that is held says so in the bar, with what holds it, and since when', async () => {
  await start()
  talk()
  const bar = await screen.findByRole('button', { name: /Cambia stato/ })
  expect(bar.textContent).toContain('In conversazione')
  const held = { doing: 'talking', talk: 'held', doing_at: soon(-304), talk_at: soon(-64), doing_until: soon(3600) } as const
  tell('seat', seat({ ...held, version: 3 }))
  await waitFor(() => expect(bar.textContent).toContain('In attesa (dalla pagina)'))
  expect(bar.textContent).not.toContain('In conversazione')
  expect(bar.textContent).toMatch(/1:0\d/)
  const phone = screen.getByRole('region', { name: /^Telefono/ })
  expect(phone.querySelector('.big')?.textContent).toMatch(/1:0\d/)
  expect(phone.textContent).toMatch(/In tutto 0:0\d/)
  tell('seat', seat({ ...held, talk_why: 'telephone', version: 4 }))
  await waitFor(() => expect(bar.textContent).toContain('In attesa (dal telefono)'))
  expect(screen.queryByRole('button', { name: /Riprendi/ })).toBeNull()
  tell('seat', seat({ doing: 'talking', doing_at: soon(-304), version: 5, doing_until: soon(3600) }))
  await waitFor(() => expect(bar.textContent).toContain('In conversazione'))
  expect(bar.textContent).toMatch(/5:0\d/)
})

test('who consults is told what hanging up does: it gives the call on', async () => {
  await start()
  talk()
  await screen.findByText('Per chiudere, riaggancia la cornetta.')
  tell('seat', seat({ doing: 'talking', talk: 'consulting', version: 3, doing_until: soon(3600) }))
  await screen.findByText('Se riagganci, la chiamata passa a chi hai consultato.')
  expect(screen.queryByText('Per chiudere, riaggancia la cornetta.')).toBeNull()
  expect(screen.getByText('Parli con chi hai consultato; intanto chi ha chiamato sente la musica.')).toBeTruthy()
})

test('who is consulted reads when the caller hears them, too', async () => {
  await start()
  talk()
  tell('seat', seat({ doing: 'talking', talk: 'advising', version: 3, doing_until: soon(3600) }))
  await screen.findByText('Un collega ti sta consultando su questa chiamata.')
  tell('seat', seat({ doing: 'talking', talk: 'advising', talk_why: 'conference', version: 4, doing_until: soon(3600) }))
  await screen.findByText('Siete in tre: vi sentite tutti.')
  expect(screen.getByRole('button', { name: /Cambia stato/ }).textContent).toContain('Conversazione in tre')
  expect(screen.queryByRole('button', { name: 'Passa la chiamata' })).toBeNull()
})

test('how a call ended is said once, whatever the apostrophe', async () => {
  const ended = { at: '2026-03-02T09:00:00Z', kind: 'ended', text: "Fine della chiamata: trasferita all'esterno", by: '', contact_id: 'c1', has_recording: false, talk_until: null, ending: 'transferred_out' }
  answers['GET /tickets/2026-1'] = () => [200, { ...ticket(), timeline: [ended], contacts: [], notes: [] }]
  location.hash = '#/ticket/2026-1'
  await start()
  const line = await screen.findByText(/Fine della chiamata/)
  expect(line.closest('p')?.textContent).toBe("Fine della chiamata: trasferita all'esterno")
})

describe('somebody who was rung back', () => {
  const callback: Callback = {
    id: 'b1', contact_id: 'c0', ticket: '2026-1', origin: 'lost', number: '+390551234567', name: 'Mario Rossi', service: 'Assistenza', topic: null, urgency: 2, t0: soon(-600),
    asked_at: soon(-500), booked_at: soon(-500), booked_by: null, state: 'ended', next_at: null, attempts: [{ contact_id: 'c1', at: soon(-60), by: 'Anna Martini', outcome: 'reached' }],
    outcome: 'reached', ended_at: soon(-50), within_an_hour: true, out_of_time: false,
  }
  const attempt = contact({ direction: 'outbound', outcome: 'reached', tc: soon(-50) })

  test('hears the music, and did not ring', async () => {
    await start()
    tell('seat', seat({ doing: 'talking', talk: 'held', version: 2, doing_until: soon(3600) }))
    tell('call.talking', pop({ offer: null, contact: attempt, callback }))
    expect(await screen.findByText('In attesa: chi è stato richiamato sente la musica e non ti sente.')).toBeTruthy()
    expect(document.body.textContent).not.toMatch(/ha chiamato/i)
    tell('seat', seat({ doing: 'talking', talk: 'consulting', version: 3, doing_until: soon(3600) }))
    expect(await screen.findByRole('button', { name: 'Torna a chi è stato richiamato' })).toBeTruthy()
    expect(document.body.textContent).not.toMatch(/chi ha chiamato/i)
  })

  test('and is given on is on the line: nobody is dialled once the handset is lifted', async () => {
    await start()
    tell('call.offered', ringing({ contact: attempt, callback }))
    expect(await screen.findByText('Solleva la cornetta del telefono 1001')).toBeTruthy()
    expect(document.body.textContent).not.toContain('poi chiamiamo noi')
    tell('call.offered', ringing({ offer: { id: 'o2', offered_at: soon(0), expires_at: soon(20) }, contact: contact({ id: 'c0' }), callback }))
    expect(await screen.findByText('Solleva la cornetta del telefono 1001: poi chiamiamo noi.')).toBeTruthy()
  })
})

describe('the form', () => {
  const lift = () => {
    tell('seat', seat({ doing: 'talking', version: 2, doing_until: soon(3600) }))
    tell('call.talking', pop({ offer: null, contact: contact({ tc: soon(0) }), ticket: prefilled }))
  }
  const prefilled = ticket({ subject: 'Certificati' })

  test('lifting the handset selects the subject that stands there, to be typed over', async () => {
    await start()
    tell('call.offered', ringing({ ticket: prefilled }))
    const subject = await screen.findByLabelText<HTMLInputElement>('Oggetto')
    lift()
    await waitFor(() => expect(document.activeElement).toBe(subject))
    expect([subject.selectionStart, subject.selectionEnd]).toEqual([0, 'Certificati'.length])
  })

  test('but not what the operator wrote while it rang', async () => {
    await start()
    tell('call.offered', ringing({ ticket: prefilled }))
    const subject = await screen.findByLabelText<HTMLInputElement>('Oggetto')
    await fireEvent.input(subject, { target: { value: 'Già scritto' } })
    subject.blur()
    lift()
    await waitFor(() => expect(document.activeElement).toBe(subject))
    expect(subject.selectionStart).toBe(subject.selectionEnd)
  })

  test('the number is to be told only while somebody is there to hear it', async () => {
    await start()
    talk()
    await screen.findByText('Numero da comunicare:')
    tell('seat', seat({ doing: 'wrapping', version: 3, doing_until: soon(60) }))
    tell('call.ended', { contact_id: 'c1', ending: 'served' })
    await waitFor(() => expect(screen.queryByText('Numero da comunicare:')).toBeNull())
    expect(screen.getByRole('link', { name: '2026-1' }).closest('.to-tell')?.textContent).toContain('Ticket')
    tell('seat', seat({ version: 4 }))
    tell('pop.cleared', {})
    await screen.findByText('Ultima chiamata')
    expect(screen.queryByText('Numero da comunicare:')).toBeNull()
  })

  test('a colleague’s change never takes a typed text away', async () => {
    await start()
    talk()
    const subject = await screen.findByLabelText<HTMLInputElement>('Oggetto')
    await fireEvent.input(subject, { target: { value: 'mio testo' } })
    tell('ticket', ticket({ version: 2, subject: 'testo di Bruno', description: 'sua descrizione' }))
    await waitFor(() => expect(screen.getByLabelText<HTMLTextAreaElement>('Descrizione').value).toBe('sua descrizione'))
    expect(subject.value).toBe('mio testo')
  })

  test('a conflict is told apart field by field, and the operator decides', async () => {
    await start()
    talk()
    answers['PATCH /tickets/2026-1'] = () => [409, { title: '', status: 409, detail: '', conflicts: { subject: { current: 'suo', by: 'Bruno Galli', at: '2026-03-02T08:31:00Z' } } }]
    const subject = await screen.findByLabelText<HTMLInputElement>('Oggetto')
    await fireEvent.input(subject, { target: { value: 'mio' } })
    await desk.draft(ticket()).flush()
    await screen.findByText('Bruno Galli alle 09:31:00 ha scritto:')
    expect(subject.value).toBe('mio')
    await fireEvent.click(screen.getByRole('button', { name: 'Usa quello' }))
    await waitFor(() => expect(subject.value).toBe('suo'))
  })

  test('a second call does not destroy what was typed on the first', async () => {
    await start()
    talk()
    await fireEvent.input(await screen.findByLabelText('Oggetto'), { target: { value: 'prima chiamata' } })
    tell('seat', seat({ version: 3 }))
    tell('pop.cleared', {})
    tell('call.offered', ringing({ offer: { id: 'o2', offered_at: soon(0), expires_at: soon(20) }, contact: contact({ id: 'c2' }), ticket: ticket({ number: '2026-2' }) }))
    await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Oggetto').value).toBe(''))
    tell('pop.cleared', {})
    await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Oggetto').value).toBe('prima chiamata'))
  })

  test('closing wants an outcome, saves what is pending, then closes', async () => {
    await start()
    talk()
    await fireEvent.input(await screen.findByLabelText('Oggetto'), { target: { value: 'risolto subito' } })
    tell('seat', seat({ doing: 'wrapping', version: 3, doing_until: soon(60) }))
    tell('call.ended', { contact_id: 'c1', ending: 'served' })
    await screen.findByRole('button', { name: /Salva e chiudi/ })
    await fireEvent.keyDown(window, { key: 'Enter', ctrlKey: true })
    await screen.findByText('Scegli l’esito per chiudere il ticket.')
    await fireEvent.click(screen.getByRole('radio', { name: 'Risolto' }))
    await fireEvent.keyDown(window, { key: 'Enter', ctrlKey: true })
    await screen.findAllByText('Ticket 2026-1 chiuso')
    const commands = asked.filter((a) => a.path.startsWith('/tickets/2026-1') && a.method !== 'GET')
    expect(commands).toEqual([
      { method: 'PATCH', path: '/tickets/2026-1', body: { base: { subject: '' }, set: { subject: 'risolto subito' } } },
      { method: 'POST', path: '/tickets/2026-1/close', body: { outcome: 'risolto', solution: '' } },
    ])
  })

  test('it is not closed over a text that could not be saved', async () => {
    await start()
    talk()
    await fireEvent.input(await screen.findByLabelText('Oggetto'), { target: { value: 'non salvato' } })
    tell('seat', seat({ doing: 'wrapping', version: 3, doing_until: soon(60) }))
    tell('call.ended', { contact_id: 'c1', ending: 'served' })
    answers['PATCH /tickets/2026-1'] = () => [503, { detail: '' }]
    await fireEvent.click(await screen.findByRole('radio', { name: 'Risolto' }))
    await fireEvent.click(screen.getByRole('button', { name: /Salva e chiudi/ }))
    await screen.findByText(/non è stato chiuso/)
    expect(asked.some((a) => a.path.endsWith('/close'))).toBe(false)
    expect(screen.getByLabelText<HTMLInputElement>('Oggetto').value).toBe('non salvato')
  })
})

describe('the state menu, by keyboard', () => {
  test('arrows, enter and escape do it', async () => {
    await start()
    const button = screen.getByRole('button', { name: /Cambia stato/ })
    button.focus()
    await fireEvent.keyDown(button, { key: 'ArrowDown' })
    const menu = await screen.findByRole('menu')
    await waitFor(() => expect(document.activeElement?.textContent).toContain('Disponibile'))
    await fireEvent.keyDown(menu, { key: 'Escape' })
    expect(screen.queryByRole('menu')).toBeNull()
    expect(document.activeElement).toBe(button)
    await fireEvent.keyDown(button, { key: 'ArrowDown' })
    await screen.findByRole('menu')
    await fireEvent.keyDown(screen.getByRole('menu'), { key: 'ArrowDown' })
    await fireEvent.keyDown(screen.getByRole('menu'), { key: 'ArrowDown' })
    await waitFor(() => expect(document.activeElement?.getAttribute('aria-label')).toBe('In pausa: Pranzo'))
    await fireEvent.click(document.activeElement as Element)
    await waitFor(() => expect(asked).toContainEqual({ method: 'PUT', path: '/operators/anna/state', body: { declared: 'break', reason: 'Pranzo' } }))
    await waitFor(() => expect(button.textContent).toContain('In pausa: Pranzo'))
  })

  test('who never declared anything can begin', async () => {
    await start({ seat: null, operators: [] })
    expect(screen.getByRole('button', { name: /Fuori turno/ })).toBeTruthy()
    await fireEvent.click(screen.getByRole('button', { name: 'Diventa disponibile' }))
    await waitFor(() => expect(asked.some((a) => a.method === 'PUT')).toBe(true))
  })

  test('a refusal says why', async () => {
    await start({ seat: seat({ declared: 'off' }) })
    answers['PUT /operators/anna/state'] = () => [409, { detail: 'Il telefono 1001 non è registrato.' }]
    await fireEvent.click(screen.getByRole('button', { name: 'Diventa disponibile' }))
    await screen.findAllByText('Il telefono 1001 non è registrato.')
  })

  describe('a refusal is told until it no longer holds:', () => {
    const refusal = () => screen.queryByRole('region', { name: 'Avviso' })
    const off = seat({ declared: 'off', can_ring: false })
    beforeEach(async () => {
      await start({ seat: off })
      answers['PUT /operators/anna/state'] = () => [409, { detail: 'Il telefono 1001 non è registrato.' }]
      await fireEvent.click(screen.getByRole('button', { name: 'Diventa disponibile' }))
      await screen.findByRole('region', { name: 'Avviso' })
      tell('seat', { ...off, version: 2 }) // nothing new
      tell('waiting', { items: [] })
      expect(refusal()?.textContent).toContain('Il telefono 1001 non è registrato.')
    })

    test('a state is reached', async () => {
      answers['PUT /operators/anna/state'] = () => [200, seat({ declared: 'admin', can_ring: false, version: 9 })]
      await desk.choose('admin')
      await waitFor(() => expect(refusal()).toBeNull())
    })
    test('the telephone is registered', async () => {
      tell('seat', seat({ declared: 'off', version: 3 }))
      await waitFor(() => expect(refusal()).toBeNull())
    })
    test('a call rings', async () => {
      tell('call.offered', ringing())
      await waitFor(() => expect(refusal()).toBeNull())
    })
    test('it is closed', async () => {
      await fireEvent.click(within(refusal() as HTMLElement).getByRole('button', { name: 'Chiudi' }))
      await waitFor(() => expect(refusal()).toBeNull())
    })
  })

  test('other faults stay when a call rings', async () => {
    await start()
    desk.tell('Il messaggio è già stato preso in carico.', true)
    tell('call.offered', ringing())
    await screen.findByText('Solleva la cornetta del telefono 1001')
    expect(screen.getByRole('region', { name: 'Avviso' }).textContent).toContain('preso in carico')
  })

  test('a telephone that cannot ring heads its card', async () => {
    await start({ seat: seat({ can_ring: false, cannot_ring_why: 'Il telefono 1001 non è registrato: controlla.' }) })
    const card = screen.getByRole('region', { name: /^Telefono/ })
    expect(within(card).getByText('Telefono non raggiungibile')).toBeTruthy()
    expect(within(card).queryByText('Nessuna chiamata')).toBeNull()
  })
})

test('who is to be rung back is told apart', async () => {
  location.hash = '#/richiamare'
  const due = (id: string, more: object) => contact({ id, ending: 'abandoned_queue', te: '2026-03-02T08:30:00Z', tq: '2026-03-02T08:29:20Z', ...more })
  answers['GET /ringbacks'] = () => [200, { items: [due('1', { match: 'several' }), due('2', { match: 'none', caller: '+390575123456', tq: null }), due('3', { match: 'withheld', caller: '' })] }]
  await start()
  const row = async (name: RegExp) => (await screen.findByRole('row', { name })).textContent
  expect(await row(/Più persone con questo numero/)).toContain('1:00')
  expect(await row(/Numero sconosciuto/)).toContain('–') // never queued
  expect(await row(/Numero nascosto/)).toBeTruthy()
})

test('a ticket’s page: no wait for a message of the night, numbers in groups', async () => {
  location.hash = '#/ticket/2026-1'
  const message = contact({ channel: 'voicemail', te: '2026-03-02T08:29:19Z', ending: 'voicemail' })
  const begun = { at: message.t0, kind: 'begun', text: 'Chiamata da +390575123456', by: null, contact_id: message.id, has_recording: false, talk_until: null, ending: null }
  answers['GET /tickets/2026-1'] = () => [200, { ...ticket(), timeline: [begun], contacts: [message], notes: [] }]
  await start()
  expect(await screen.findByText('Chiamata da +39 0575 123456')).toBeTruthy()
  const calls = screen.getByRole('region', { name: 'Chiamate' })
  expect(within(calls).queryByText('0:19')).toBeNull()
})

test('a recorded talk: what is not in it and why, and the server’s word when it cannot be heard', async () => {
  location.hash = '#/ticket/2026-1'
  const talk = contact({ id: 'c1', te: '2026-03-02T08:29:19Z', ending: 'served', talk_until: '2026-06-02T08:29:19Z' })
  const gaps = [{ from_ms: 4000, for_ms: 61_000, reason: 'operator' }, { from_ms: 70_000, for_ms: 5000, reason: 'hold' }]
  const ended = { at: talk.te, kind: 'ended', text: 'Fine della chiamata: servita', by: null, contact_id: 'c1', has_recording: false, talk_until: talk.talk_until, talk_gaps: gaps, ending: 'served' }
  answers['GET /tickets/2026-1'] = () => [200, { ...ticket(), timeline: [ended], contacts: [talk], notes: [] }]
  answers['GET /contacts/c1/talk'] = () => [423, { detail: 'La registrazione è cifrata con una chiave che il server non ha.' }]
  await start({ me: { ...me, name: 'carla', display_name: 'Carla Neri', role: 'supervisor', extension: '' }, seat: null })
  const rows = within((await screen.findByText('Non registrato:')).parentElement!).getAllByRole('listitem').map((r) => r.textContent)
  expect(rows).toEqual(['0:04–1:05 sospesa dall’operatore Ascolta da 1:05', '1:10–1:15 in attesa, con la musica Ascolta da 1:15'])
  const audio = screen.getByLabelText(/^Ascolta la conversazione/)
  await fireEvent.error(audio)
  expect((await screen.findByText(/cifrata con una chiave/)).getAttribute('role')).toBe('alert')
})

test('how the recording of a talk stands, also when another of the three pauses it', async () => {
  let taping = { recorded: true, paused: false }
  answers['GET /talk/recording'] = () => [200, taping]
  const looks = () => asked.filter((a) => a.path === '/talk/recording').length
  const stands = (talk: Seat['talk'], version: number) => tell('seat', seat({ doing: 'talking', version, doing_until: soon(3600), talk }))
  await start()
  talk()
  await screen.findByText('La conversazione è registrata.')
  stands('consulting', 3)
  await screen.findByText('Adesso non si registra: riprende quando vi parlate.')
  stands('conference', 4)
  await screen.findByText('La conversazione è registrata.')
  const before = looks()
  await waitFor(() => expect(looks()).toBe(before + 2), { timeout: 4000 }) // those that follow another stretch
  taping = { recorded: true, paused: true }
  tell('taping', { contact_id: 'another' })
  tell('taping', { contact_id: 'c1' })
  await screen.findByText('Registrazione sospesa: quello che dite non resta.')
  expect(screen.getByRole('button', { name: 'Riprendi registrazione' })).toBeTruthy()
  expect(looks()).toBe(before + 3)
})

test('how each leg sounded: every figure in its column', () => {
  const heard = { packets: 6052, lost: 0.0125, jitter_ms: 7, trip_ms: 0, mos: 4.41 }
  const reached = { packets: 5990, lost: 0, jitter_ms: 3, trip_ms: 48, mos: 3.9 }
  render(Quality, { contact: contact({ legs: [{ who: 'caller', heard, reached }, { who: 'operator', heard: null, reached }] }) })
  const rows = within(screen.getByRole('table')).getAllByRole('row').map((r) => [...r.children].map((c) => c.textContent))
  expect(rows).toEqual([
    ['Tratta', 'Verso', 'Pacchetti', 'Persi', 'Jitter', 'Andata e ritorno', 'MOS'],
    ['Chi ha chiamato', 'ricevuto', '6052', '1,25%', '7 ms', '–', '4,41'],
    ['Chi ha chiamato', 'inviato', '5990', '0,00%', '3 ms', '48 ms', '3,90'],
    ['Operatore', 'inviato', '5990', '0,00%', '3 ms', '48 ms', '3,90'],
  ])
})

test('a supervisor sees who was let go in a call until it is over, and cannot force them', async () => {
  answers['GET /me'] = () => [200, { ...me, name: 'carla', role: 'supervisor', extension: '' }]
  await start({ me: { ...me, name: 'carla', display_name: 'Carla Neri', role: 'supervisor', extension: '' }, seat: null, operators: [seat({ doing: 'talking' })] })
  const row = await screen.findByRole('row', { name: /Anna Martini/ })
  expect(row.textContent).toContain('Forza stato')
  tell('seat', seat({ doing: 'talking', declared: 'off', active: false, version: 2 }))
  await waitFor(() => expect(row.textContent).toContain('disattivato: termina questa chiamata'))
  expect(row.textContent).not.toContain('Forza stato')
  tell('seat', seat({ declared: 'off', active: false, version: 3 }))
  await waitFor(() => expect(screen.queryByRole('row', { name: /Anna Martini/ })).toBeNull())
})

test('a supervisor sees the operators, with state and since when', async () => {
  answers['GET /me'] = () => [200, { ...me, name: 'carla', role: 'supervisor', extension: '' }]
  await start({ me: { ...me, name: 'carla', display_name: 'Carla Neri', role: 'supervisor', extension: '' }, seat: null, operators: [seat({ declared: 'break', reason: 'Pranzo', declared_at: new Date(Date.now() - 61_000).toISOString() })] })
  const row = await screen.findByRole('row', { name: /Anna Martini/ })
  expect(row.textContent).toContain('In pausa: Pranzo')
  expect(row.textContent).toMatch(/1:0\d/)
})

test('what an earlier page left unsaved is saved by the next', async () => {
  localStorage.setItem('pronto.draft.anna.2026-1', JSON.stringify({ base: { subject: '' }, typed: { subject: 'prima del riavvio' }, aside: {} }))
  await start()
  await waitFor(() => expect(asked.some((a) => a.method === 'PATCH')).toBe(true), { timeout: 4000 })
  expect(asked.find((a) => a.method === 'PATCH')?.body).toEqual({ base: { subject: '' }, set: { subject: 'prima del riavvio' } })
  await waitFor(() => expect(localStorage.getItem('pronto.draft.anna.2026-1')).toBeNull())
})
