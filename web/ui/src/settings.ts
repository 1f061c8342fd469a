// A service's settings as the form and the lists of versions need them. What is
// wrong with them the server says; here are only shapes and words.

import { phone, type Language } from './format'
import type { Fault, ServiceSettings, ServiceVersion, Topic } from './contract'
import type { ServiceWords } from './words/servizi'

export type Period = ServiceSettings['hours']['exceptional'][number]
export type PeriodKind = 'closed' | 'whole' | 'windows'

/** What the server takes for a length that is left empty, in seconds. */
export const USUAL = { max_wait: 900, nobody_wait: 30, announce_every: 30 } as const

/** How many days a recorded talk is kept when nothing else is said. */
export const KEPT_DAYS = 30

export const MIDNIGHT = '24:00' // the end of a day, which no input of type time can say

/** Settings that say nothing yet. */
export function blank(): ServiceSettings {
  return {
    name: '', numbers: [], hours: { always: false, open_holidays: false, patron: '', week: [], exceptional: [] }, menu: [], mobiles_refused: false,
    recording_notice: false, max_wait: 0, nobody_wait: 0, at_closing: '', announce_every: 0, callback_offered: null,
    duty: { numbers: [], from: '', to: '' },
    record_calls: false, recording_agreement: '', recording_days: 0, supervise_calls: false, supervision_agreement: '',
  }
}

/** A time as people type it, as HH:MM: `8`, `830`, `8.30`. What is none stays as it is, for the check to tell. */
export function tidyClock(text: string): string {
  const typed = text.trim()
  const m = /^(\d{1,2})(?:[:.,h ]?(\d\d))?$/.exec(typed)
  return m ? `${m[1]!.padStart(2, '0')}:${m[2] ?? '00'}` : typed
}

export function kindOf(period: Period): PeriodKind {
  if (period.windows.length === 0) return 'closed'
  return period.windows.length === 1 && period.windows[0]!.opens === '00:00' && period.windows[0]!.closes === MIDNIGHT ? 'whole' : 'windows'
}

/** Whether a field is this one or inside it: `hours.week[1].opens` is inside `hours.week[1]`. */
export function inside(field: string, path: string): boolean {
  return field === path || (field.startsWith(path) && '.['.includes(field[path.length] ?? ''))
}

/** The fault's place among fields that can be reached: itself, what is inside it, or what it is inside of. */
export function reach(fields: readonly string[], fault: string): string | undefined {
  for (let path = fault; path !== ''; ) {
    const found = fields.find((f) => f === path) ?? fields.find((f) => inside(f, path))
    if (found !== undefined) return found
    const outer = path.replace(/(\.?[a-z_]+|\[\d+\])$/, '')
    if (outer === path) break // no path of ours
    path = outer
  }
  return undefined
}

/** The faults when row n of a list is gone: its own go with it, those of later rows move up. */
export function withoutRow(faults: readonly Fault[], path: string, n: number): Fault[] {
  return faults.flatMap((f) => {
    const row = inside(f.field, path) ? /^\[(\d+)\]/.exec(f.field.slice(path.length)) : null
    if (!row || Number(row[1]) < n) return [f]
    if (Number(row[1]) === n) return []
    return [{ ...f, field: `${path}[${Number(row[1]) - 1}]${f.field.slice(path.length + row[0].length)}` }]
  })
}

export type Standing = 'draft' | 'force' | 'coming' | 'replaced' | 'past'

/** How a version stands among all of its service. */
export function standing(v: ServiceVersion, all: readonly ServiceVersion[], now: number): Standing {
  if (v.state === 'draft') return 'draft'
  if (v.in_force) return 'force'
  const from = Date.parse(v.valid_from ?? '')
  if (from <= now) return 'past'
  return all.some((o) => o.state === 'published' && o.version > v.version && Date.parse(o.valid_from ?? '') === from) ? 'replaced' : 'coming'
}

/** Seconds as `15 min`, `1 min 30 s`, `2 h`. */
export function lasting(seconds: number): string {
  const parts = [[Math.floor(seconds / 3600), 'h'], [Math.floor(seconds / 60) % 60, 'min'], [seconds % 60, 's']] as const
  return parts.filter(([n]) => n > 0).map(([n, unit]) => `${n} ${unit}`).join(' ') || '0 s'
}

/** One thing that settings say. */
export interface Said {
  key: string
  label: string
  lines: string[]
}

const spans = (windows: readonly { opens: string; closes: string }[]) => windows.map((x) => `${x.opens}–${x.closes}`).join(', ')
const date = (iso: string, language: Language) => {
  const [y, m, d] = iso.split('-')
  return y && m && d ? (language === 'it' ? `${d}/${m}/${y}` : `${d}.${m}.${y}`) : iso || '…'
}

/** Days that follow each other with the same windows, as one line. */
function weekLines(week: ServiceSettings['hours']['week'], w: ServiceWords): string[] {
  const days = [1, 2, 3, 4, 5, 6, 7].map((n) => ({ n, text: spans(week.filter((x) => x.weekday === n).sort((a, b) => a.opens.localeCompare(b.opens))) }))
  const runs: { first: number; last: number; text: string }[] = []
  for (const d of days) {
    const run = runs.at(-1)
    if (run && run.text === d.text) run.last = d.n
    else runs.push({ first: d.n, last: d.n, text: d.text })
  }
  return runs.map((r) => `${w.shortDays[r.first]}${r.last > r.first ? `–${w.shortDays[r.last]}` : ''} ${r.text || w.closedDay}`)
}

/** All that settings say, in words, in the order of the form. */
export function said(s: ServiceSettings, topics: readonly Topic[], w: ServiceWords, language: Language): Said[] {
  const t = w.text
  const [month, day] = s.hours.patron.split('-')
  const rows: [string, string, string[]][] = [
    ['name', t.name, [s.name]],
    ['numbers', t.numbers, s.numbers.map(phone)],
    ['mobiles', t.mobiles, [s.mobiles_refused ? t.refused : t.accepted]],
    ['recording', t.recording, [s.recording_notice ? w.yes : w.no]],
    ['record_calls', t.recordCalls, s.record_calls ? [t.recordedFor(s.recording_days || KEPT_DAYS), s.recording_agreement ?? ''] : [w.no]],
    ['supervise', t.supervise, s.supervise_calls ? [w.yes, s.supervision_agreement ?? ''] : [w.no]],
    ['open', t.open, [s.hours.always ? w.alwaysOpen : w.byWeek]],
    ['week', t.week, weekLines(s.hours.week, w)],
    ['holidays', t.holidays, [s.hours.open_holidays ? t.openThen : t.closedThen]],
    ['patron', t.patron, [s.hours.patron ? `${Number(day)} ${w.months[Number(month)] ?? ''}` : t.none]],
    ['exceptional', t.exceptional, s.hours.exceptional.map((p) => {
      const days = p.last && p.last !== p.first ? `${date(p.first, language)}–${date(p.last, language)}` : date(p.first, language)
      const what = { closed: t.closedThen, whole: t.allDay, windows: spans(p.windows) }[kindOf(p)]
      return `${days}: ${what}${p.note ? ` (${p.note})` : ''}`
    })],
    ['menu', t.menu, s.menu.map((m) => {
      const leads = m.action === 'state' ? t.stateOf : (topics.find((x) => x.code === m.topic)?.name ?? (m.topic || '…'))
      return `${m.key} → ${leads}${m.default ? ` (${t.isDefault})` : ''}`
    })],
    ['max_wait', t.maxWait, [lasting(s.max_wait || USUAL.max_wait)]],
    ['nobody_wait', t.nobodyWait, [lasting(s.nobody_wait || USUAL.nobody_wait)]],
    ['announce_every', t.announceEvery, [lasting(s.announce_every || USUAL.announce_every)]],
    ['at_closing', t.atClosing, [w.closings[s.at_closing || 'serve'] ?? s.at_closing]],
    ['callback_offered', t.callbackOffered, [s.callback_offered === false ? w.no : w.yes]],
    ['duty', t.duty, s.duty.numbers.length ? [...s.duty.numbers.map(phone), s.duty.from || s.duty.to ? `${s.duty.from}–${s.duty.to}` : w.dutyAlways] : []],
  ]
  return rows.map(([key, label, lines]) => ({ key, label, lines: lines.filter((l) => l !== '').length ? lines : [t.none] }))
}
