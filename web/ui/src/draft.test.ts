import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AGAIN_FIRST, Draft, SAVE_AFTER, type Answer, type Store } from './draft'
import type { Ticket } from './contract'
import { ticket } from './testing/samples'

/** A server with one ticket, that compares like the real one and can be told to misbehave. */
class Server {
  ticket = ticket()
  asked: { base: Record<string, unknown>; set: Record<string, unknown>; leaving: boolean }[] = []
  next: ((base: Record<string, unknown>, set: Record<string, unknown>) => Promise<Answer> | Answer) | null = null
  hold: Promise<void> | null = null
  rewrite: (set: Record<string, unknown>) => Record<string, unknown> = (set) => set

  patch = async (base: object, set: object, leaving: boolean): Promise<Answer> => {
    this.asked.push({ base: { ...base }, set: { ...set }, leaving })
    const next = this.next
    this.next = null
    if (this.hold) await this.hold
    if (next) return next(base as Record<string, unknown>, set as Record<string, unknown>)
    return this.apply(base as Record<string, unknown>, set as Record<string, unknown>)
  }

  apply(base: Record<string, unknown>, set: Record<string, unknown>): Answer {
    const now = this.ticket as unknown as Record<string, unknown>
    const written = this.rewrite(set)
    const changed = Object.keys(set).filter((f) => now[f] !== base[f] && now[f] !== written[f])
    if (changed.length) {
      return { kind: 'conflict', conflicts: Object.fromEntries(changed.map((f) => [f, { current: now[f] as string, by: 'Bruno Galli', at: '2026-03-02T08:31:00Z' }])) }
    }
    this.ticket = { ...this.ticket, ...written, version: this.ticket.version + 1 } as Ticket
    return { kind: 'saved', ticket: this.ticket }
  }

  colleague(change: Partial<Ticket>): Ticket {
    this.ticket = { ...this.ticket, ...change, version: this.ticket.version + 1 }
    return this.ticket
  }
}

class Memory implements Store {
  kept = new Map<string, string>()
  full = false
  getItem = (k: string) => this.kept.get(k) ?? null
  setItem = (k: string, v: string) => {
    if (this.full) throw new Error('full')
    this.kept.set(k, v)
  }
  removeItem = (k: string) => void this.kept.delete(k)
}

let server: Server
let store: Memory
const open = (t = server.ticket) => new Draft(t, { key: 'd', store, patch: server.patch, now: () => 1000 })
const tick = (ms: number) => vi.advanceTimersByTimeAsync(ms)

beforeEach(() => {
  vi.useFakeTimers()
  server = new Server()
  store = new Memory()
})
afterEach(() => vi.useRealTimers())

describe('saving by itself', () => {
  test('two seconds after the first key, only what changed, with what stood there', async () => {
    const d = open()
    d.edit('subject', 'I')
    await tick(1500)
    d.edit('subject', 'Il certificato')
    expect(server.asked).toHaveLength(0)
    await tick(500)
    expect(server.asked).toEqual([{ base: { subject: '' }, set: { subject: 'Il certificato' }, leaving: false }])
    expect(d.view()).toMatchObject({ status: 'saved', savedAt: 1000, unsaved: [] })
    expect(store.kept.size).toBe(0)
  })

  test('nothing typed, nothing sent', async () => {
    open()
    await tick(60_000)
    expect(server.asked).toHaveLength(0)
  })

  test('typed and taken back is nothing to save', async () => {
    const d = open()
    d.edit('subject', 'x')
    d.edit('subject', '')
    await tick(60_000)
    expect(server.asked).toHaveLength(0)
    expect(d.view().status).toBe('clean')
  })

  test('taken back while the other text is being saved is saved too', async () => {
    let release = () => {}
    server.hold = new Promise((r) => (release = r))
    const d = open()
    d.edit('subject', 'x')
    await tick(SAVE_AFTER)
    d.edit('subject', '')
    release()
    server.hold = null
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('')
    expect(d.view().unsaved).toEqual([])
  })

  test('one save at a time; what is typed meanwhile goes with the next, from what was saved', async () => {
    let release = () => {}
    server.hold = new Promise((r) => (release = r))
    const d = open()
    d.edit('subject', 'Il cert')
    await tick(SAVE_AFTER)
    d.edit('subject', 'Il certificato')
    await tick(10_000)
    expect(server.asked).toHaveLength(1)
    server.hold = null
    release()
    await tick(0)
    expect(d.view().values.subject).toBe('Il certificato')
    await tick(SAVE_AFTER)
    expect(server.asked[1]).toMatchObject({ base: { subject: 'Il cert' }, set: { subject: 'Il certificato' } })
    expect(server.ticket.subject).toBe('Il certificato')
  })

  test('the echo of a save that arrives before its answer disturbs nothing', async () => {
    let release = () => {}
    server.hold = new Promise((r) => (release = r))
    const d = open()
    d.edit('subject', 'a')
    await tick(SAVE_AFTER)
    d.adopt({ ...server.ticket, subject: 'a', version: 2 })
    d.edit('subject', 'ab')
    server.hold = null
    release()
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('ab')
    expect(d.view().conflicts).toEqual({})
  })
})

describe('a text does not change under the cursor', () => {
  test('what the server writes otherwise is shown so when the field is left', async () => {
    server.rewrite = (set) => ('requester_number' in set ? { ...set, requester_number: '+39055999888' } : set)
    const d = open()
    d.edit('requester_number', '055 999888')
    await tick(SAVE_AFTER)
    expect(d.view()).toMatchObject({ status: 'saved', unsaved: [] })
    expect(d.view().values.requester_number).toBe('055 999888')
    d.leave('requester_number')
    expect(d.view().values.requester_number).toBe('+39055999888')
  })

  test('and typing goes on from it without a conflict', async () => {
    server.rewrite = (set) => ({ ...set, requester_number: `+39${String(set['requester_number']).replaceAll(' ', '').replace('+39', '')}` })
    const d = open()
    d.edit('requester_number', '055 99')
    await tick(SAVE_AFTER)
    d.edit('requester_number', '055 9988')
    await tick(SAVE_AFTER)
    expect(server.ticket.requester_number).toBe('+390559988')
    expect(d.view().status).toBe('saved')
  })
})

describe('a colleague writes too', () => {
  test('in another field: both stand', async () => {
    const d = open()
    d.edit('subject', 'mio')
    d.adopt(server.colleague({ description: 'suo' }))
    expect(d.view().values).toMatchObject({ subject: 'mio', description: 'suo' })
    await tick(SAVE_AFTER)
    expect(server.ticket).toMatchObject({ subject: 'mio', description: 'suo' })
  })

  test('in the same field: mine stays on the screen, theirs is shown, nothing is sent again by itself', async () => {
    const d = open()
    d.edit('subject', 'mio')
    server.colleague({ subject: 'suo' })
    await tick(SAVE_AFTER)
    expect(d.view().values.subject).toBe('mio')
    expect(d.view().status).toBe('conflict')
    expect(d.view().conflicts.subject).toMatchObject({ current: 'suo', by: 'Bruno Galli' })
    d.edit('subject', 'mio, ancora')
    await tick(60_000)
    expect(server.asked).toHaveLength(1)
    expect(store.kept.get('d')).toContain('mio, ancora')
  })

  test('the other fields of a conflict are saved at once', async () => {
    const d = open()
    d.edit('subject', 'mio')
    d.edit('description', 'descrizione')
    server.colleague({ subject: 'suo' })
    await tick(SAVE_AFTER + 1)
    expect(server.ticket).toMatchObject({ subject: 'suo', description: 'descrizione' })
    expect(d.view().unsaved).toEqual(['subject'])
  })

  test('that the server is away is said before an open conflict', async () => {
    const d = open()
    d.edit('subject', 'mio')
    server.colleague({ subject: 'suo' })
    await tick(SAVE_AFTER)
    server.next = () => ({ kind: 'away', detail: '' })
    d.edit('description', 'altro')
    await tick(SAVE_AFTER)
    expect(d.view().status).toBe('away')
    expect(d.view().conflicts.subject?.current).toBe('suo')
    await tick(AGAIN_FIRST)
    expect(d.view().status).toBe('conflict')
  })

  test('keeping mine replaces theirs', async () => {
    const d = open()
    d.edit('subject', 'mio')
    server.colleague({ subject: 'suo' })
    await tick(SAVE_AFTER)
    d.keepMine('subject')
    await tick(1)
    expect(server.ticket.subject).toBe('mio')
    expect(d.view().status).toBe('saved')
  })

  test('using theirs lets mine go', async () => {
    const d = open()
    d.edit('subject', 'mio')
    server.colleague({ subject: 'suo' })
    await tick(SAVE_AFTER)
    d.takeTheirs('subject')
    expect(d.view().values.subject).toBe('suo')
    expect(store.kept.size).toBe(0)
    await tick(60_000)
    expect(server.asked).toHaveLength(1)
  })

  test('the very same text is no conflict, also when the answer got lost', async () => {
    const d = open()
    server.next = () => {
      server.colleague({ subject: 'mio' }) // it was saved, but nobody heard
      return { kind: 'away', detail: '' }
    }
    d.edit('subject', 'mio')
    await tick(SAVE_AFTER)
    d.edit('subject', 'mio e altro')
    await tick(60_000)
    expect(server.ticket.subject).toBe('mio e altro')
    expect(d.view().conflicts).toEqual({})
  })

  test('a topic in a conflict is its id, however the server names it', async () => {
    const d = open()
    server.next = () => ({ kind: 'conflict', conflicts: { topic: { current: { id: 3, code: 'c', name: 'Carta' } as never, by: null, at: '' } } })
    d.edit('topic', 4)
    await tick(SAVE_AFTER)
    expect(d.view().conflicts.topic?.current).toBe(3)
  })

  test('an older version of the ticket is not shown', () => {
    const d = open(ticket({ version: 5, subject: 'nuovo' }))
    d.adopt(ticket({ version: 4, subject: 'vecchio' }))
    expect(d.view().values.subject).toBe('nuovo')
  })
})

describe('when saving fails', () => {
  test('it is tried again, longer apart, until it works', async () => {
    const d = open()
    server.next = () => ({ kind: 'away', detail: 'La banca dati non risponde.' })
    d.edit('subject', 'resta')
    await tick(SAVE_AFTER)
    expect(d.view()).toMatchObject({ status: 'away', problem: 'La banca dati non risponde.' })
    expect(d.view().values.subject).toBe('resta')
    expect(store.kept.get('d')).toContain('resta')
    server.next = () => ({ kind: 'away', detail: '' })
    await tick(AGAIN_FIRST)
    expect(server.asked).toHaveLength(2)
    await tick(AGAIN_FIRST)
    expect(server.asked).toHaveLength(2)
    await tick(AGAIN_FIRST)
    expect(server.asked).toHaveLength(3)
    expect(server.ticket.subject).toBe('resta')
    expect(store.kept.size).toBe(0)
  })

  test('when what could not be sent is there by another way, the next text is saved as ever', async () => {
    const d = open()
    server.next = () => ({ kind: 'away', detail: '' })
    d.edit('subject', 'mio')
    await tick(SAVE_AFTER)
    d.adopt(server.colleague({ subject: 'mio' }))
    expect(d.view()).toMatchObject({ status: 'clean', unsaved: [], problem: '' })
    d.edit('subject', 'mio e altro')
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('mio e altro')
  })

  test('a fault of the sender counts as away', async () => {
    const d = open()
    server.next = () => Promise.reject(new Error('boom'))
    d.edit('subject', 'resta')
    await tick(SAVE_AFTER)
    expect(d.view().status).toBe('away')
    await tick(AGAIN_FIRST)
    expect(server.ticket.subject).toBe('resta')
  })

  test('a refused value is not sent again as it is, and keeps no other field from being saved', async () => {
    const d = open()
    server.next = () => ({ kind: 'refused', detail: 'Al massimo 200 caratteri.', field: 'subject' })
    d.edit('subject', 'troppo')
    d.edit('description', 'buona')
    await tick(SAVE_AFTER + 1)
    expect(server.asked[1]?.set).toEqual({ description: 'buona' })
    expect(d.view()).toMatchObject({ status: 'refused', problem: 'Al massimo 200 caratteri.', unsaved: ['subject'] })
    await tick(60_000)
    expect(server.asked).toHaveLength(2)
    d.edit('subject', 'corto')
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('corto')
    expect(d.view().status).toBe('saved')
  })

  test('a ticket that takes no changes is left alone until it changes or somebody insists', async () => {
    const d = open()
    server.next = () => ({ kind: 'refused', detail: 'Il ticket è chiuso.' })
    d.edit('subject', 'tardi')
    await tick(60_000)
    expect(server.asked).toHaveLength(1)
    d.adopt(server.colleague({ status: 'open' }))
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('tardi')
  })

  test('without a session the text waits for the next one', async () => {
    const d = open()
    server.next = () => ({ kind: 'signed_out' })
    d.edit('subject', 'resta')
    await tick(SAVE_AFTER)
    expect(d.view().status).toBe('signed_out')
    expect(store.kept.get('d')).toContain('resta')
  })
})

describe('what survives the page', () => {
  test('unsaved text is there after a reload, and is saved', async () => {
    const d = open()
    d.edit('subject', 'appena scritto')
    d.put('solution', 'riavviato')
    d.stop()
    const again = open(ticket())
    expect(again.view().values.subject).toBe('appena scritto')
    expect(again.view().aside.solution).toBe('riavviato')
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('appena scritto')
    expect(again.view().aside.solution).toBe('riavviato')
  })

  test('a colleague’s change during the reload is still a conflict', async () => {
    const d = open()
    d.edit('subject', 'mio')
    d.stop()
    const again = open(server.colleague({ subject: 'suo' }))
    await tick(SAVE_AFTER)
    expect(again.view().values.subject).toBe('mio')
    expect(again.view().conflicts.subject?.current).toBe('suo')
  })

  test('what had arrived after all is not sent again', async () => {
    const d = open()
    d.edit('subject', 'mio')
    d.stop()
    open(server.colleague({ subject: 'mio' }))
    await tick(60_000)
    expect(server.asked).toHaveLength(0)
    expect(store.kept.size).toBe(0)
  })

  test('a page that dies while it saves knows its own text again', async () => {
    server.hold = new Promise(() => undefined) // the answer never comes
    const d = open()
    d.edit('subject', 'prima')
    await tick(SAVE_AFTER)
    d.stop()
    server.hold = null
    const again = open(ticket()) // read before the save arrived…
    server.colleague({ subject: 'prima' }) // …which it did
    again.edit('subject', 'prima e dopo')
    await tick(SAVE_AFTER + 1)
    expect(again.view().conflicts).toEqual({})
    expect(server.ticket.subject).toBe('prima e dopo')
  })

  test('two who flush at once save once', async () => {
    let release = () => {}
    server.hold = new Promise((r) => (release = r))
    const d = open()
    d.edit('subject', 'x')
    await tick(SAVE_AFTER)
    d.edit('subject', 'xy')
    const both = Promise.all([d.flush(), d.flush()])
    server.hold = null
    release()
    expect(await both).toEqual([true, true])
    expect(server.asked.map((a) => a.set)).toEqual([{ subject: 'x' }, { subject: 'xy' }])
  })

  test('leaving the page saves at once', async () => {
    const d = open()
    d.edit('subject', 'ciao')
    expect(await d.flush(true)).toBe(true)
    expect(server.asked).toEqual([{ base: { subject: '' }, set: { subject: 'ciao' }, leaving: true }])
  })

  test('a full store does not stop the typing', async () => {
    store.full = true
    const d = open()
    expect(() => d.edit('subject', 'x')).not.toThrow()
    await tick(SAVE_AFTER)
    expect(server.ticket.subject).toBe('x')
  })

  test('a broken store entry is let pass', () => {
    store.kept.set('d', '{')
    expect(open().view().status).toBe('clean')
  })

  test('flush is false while something is not saved', async () => {
    const d = open()
    server.next = () => ({ kind: 'away', detail: '' })
    d.edit('subject', 'x')
    expect(await d.flush()).toBe(false)
  })

  test('outcome, solution and note go when they were sent', () => {
    const d = open()
    d.put('outcome', 'risolto')
    d.put('note', 'da richiamare')
    d.sent('outcome', 'solution')
    expect(d.view().aside).toEqual({ outcome: null, solution: null, note: 'da richiamare' })
    expect(store.kept.get('d')).toContain('da richiamare')
    d.sent('note')
    expect(store.kept.size).toBe(0)
  })
})

test('whatever is typed, whenever, with a server that fails as it likes: the last text arrives', async () => {
  for (let seed = 1; seed <= 40; seed++) {
    server = new Server()
    store = new Memory()
    let x = seed
    const random = (n: number) => (x = (x * 48271) % 2147483647) % n // Park and Miller's generator: the seed names the run
    let d = open()
    let typed = ''
    for (let i = 0; i < 60; i++) {
      switch (random(7)) {
        case 0:
          server.next = () => ({ kind: 'away', detail: '' })
          break
        case 6:
          server.next = (base, set) => {
            server.apply(base, set) // it arrived, its answer did not
            return { kind: 'away', detail: '' }
          }
          break
        case 1:
          d.adopt(server.colleague({ description: `colleague ${i}` }))
          break
        case 2:
          d.stop()
          d = open(server.ticket)
          break
        default:
          typed += String.fromCharCode(97 + random(26))
          d.edit('subject', typed)
      }
      expect(d.view().values.subject, `seed ${seed}`).toBe(typed)
      await tick(random(3000))
    }
    await tick(120_000)
    expect(server.ticket.subject, `seed ${seed}`).toBe(typed)
    expect(d.view().unsaved, `seed ${seed}`).toEqual([])
    d.stop()
  }
})
