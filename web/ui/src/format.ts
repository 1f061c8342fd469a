// How times and numbers are written. Screens show the desk's time zone,
// wherever the browser sits.

import type { Contact } from './contract'

export const ZONE = 'Europe/Rome'

export type Language = 'it' | 'en'

const locale: Record<Language, string> = { it: 'it-IT', en: 'en-GB' }

const made = new Map<string, Intl.DateTimeFormat>()

/** Formatters are dear to make and cheap to use. */
function formatter(language: Language, name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = language + name
  let f = made.get(key)
  if (!f) {
    f = new Intl.DateTimeFormat(locale[language], { timeZone: ZONE, ...options })
    made.set(key, f)
  }
  return f
}

/** Milliseconds as `m:ss`, or `h:mm:ss` from an hour on. Never negative: clocks that disagree by a second show 0:00. */
export function duration(ms: number): string {
  const s = Number.isFinite(ms) ? Math.max(0, Math.floor(ms / 1000)) : 0
  const two = (n: number) => String(n).padStart(2, '0')
  const h = Math.floor(s / 3600)
  const m = Math.floor(s / 60) % 60
  return h > 0 ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`
}

/** Time left until `ms` from now, rounded up, so that a countdown ends at 0:00 and not a second before. */
export function countdown(ms: number): string {
  return duration(Math.ceil(Math.max(0, ms) / 1000) * 1000)
}

/** `09:41` */
export function clockTime(at: string | number, language: Language): string {
  return formatter(language, 'hm', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(new Date(at))
}

/** `09:41:03` */
export function clockSeconds(at: string | number, language: Language): string {
  return formatter(language, 'hms', {
    hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
  }).format(new Date(at))
}

/** The calendar day in Rome, as `2026-03-29`. */
export function day(at: string | number): string {
  const parts = formatter('en', 'ymd', { year: 'numeric', month: '2-digit', day: '2-digit' }).formatToParts(new Date(at))
  const part = (type: string) => parts.find((p) => p.type === type)?.value ?? ''
  return `${part('year')}-${part('month')}-${part('day')}`
}

/** The instant at which a calendar day begins in Rome, which is one or two hours east; days are counted on from it. */
export function midnight(date: string, later = 0): string {
  const at = new Date(`${date}T12:00:00Z`)
  at.setUTCDate(at.getUTCDate() + later)
  const on = at.toISOString().slice(0, 10)
  const winter = new Date(`${on}T00:00:00+01:00`)
  return (clockTime(winter.getTime(), 'it') === '00:00' ? winter : new Date(`${on}T00:00:00+02:00`)).toISOString()
}

/** `oggi 09:41`, `ieri 18:20`, `lun 2 mar 18:20`, `2 mar 2025 18:20`. */
export function moment(at: string | number | null | undefined, now: number, language: Language): string {
  if (at === null || at === undefined || at === '') return ''
  const time = clockTime(at, language)
  const then = day(at)
  const today = day(now)
  if (then === today) return `${language === 'it' ? 'oggi' : 'today'} ${time}`
  // The day before by calendar, not 24 hours ago: a day of the clocks' change has 23 or 25.
  const [y, m, d] = today.split('-').map(Number) as [number, number, number]
  if (then === new Date(Date.UTC(y, m - 1, d - 1)).toISOString().slice(0, 10)) {
    return `${language === 'it' ? 'ieri' : 'yesterday'} ${time}`
  }
  const date =
    then.slice(0, 4) === today.slice(0, 4)
      ? formatter(language, 'wdm', { weekday: 'short', day: 'numeric', month: 'short' }).format(new Date(at))
      : formatter(language, 'dmy', { day: 'numeric', month: 'short', year: 'numeric' }).format(new Date(at))
  return `${date.replace(',', '')} ${time}`
}

/** `martedì 3 marzo 2026, 09:41:03`: in full, for titles. */
export function fullMoment(at: string | number | null | undefined, language: Language): string {
  if (at === null || at === undefined || at === '') return ''
  const date = formatter(language, 'full', { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' }).format(new Date(at))
  return `${date}, ${clockSeconds(at, language)}`
}

/** `3 marzo 2026`. */
export function fullDay(at: string | number, language: Language): string {
  return formatter(language, 'dMy', { day: 'numeric', month: 'long', year: 'numeric' }).format(new Date(at))
}

/**
 * A telephone number in the groups Italians read: `+39 055 1234567`,
 * `+39 347 123 4567`, `800 123 456`. What is not known stays as it came.
 */
export function phone(number: string): string {
  const it = /^\+39(\d+)$/.exec(number)?.[1]
  if (it) {
    if (/^3\d{8,9}$/.test(it)) return `+39 ${it.slice(0, 3)} ${it.slice(3, 6)} ${it.slice(6)}`
    if (/^0[26]\d+$/.test(it)) return `+39 ${it.slice(0, 2)} ${it.slice(2)}`
    // Area codes of three figures all end in 0, 1, 5 or 9 (055, 051, 011); the others have four (0571).
    if (/^0\d[0159]\d+$/.test(it)) return `+39 ${it.slice(0, 3)} ${it.slice(3)}`
    if (/^0\d{3}\d+$/.test(it)) return `+39 ${it.slice(0, 4)} ${it.slice(4)}`
    return `+39 ${it}`
  }
  const free = /^(8\d\d)(\d{3})(\d{3})$/.exec(number)
  return free ? `${free[1]} ${free[2]} ${free[3]}` : number
}

/** The telephone numbers inside a sentence of the server, written likewise. */
export function phonesIn(text: string): string {
  return text.replace(/\+\d{6,15}/g, phone)
}

/** How long somebody waited for a person; `–` for who never queued. */
export function waited(c: Pick<Contact, 't0' | 'tq' | 'tc' | 'te'>): string {
  const end = c.tc ?? c.te
  return c.tq && end ? duration(Date.parse(end) - Date.parse(c.t0)) : '–'
}

/** An instant as Rome's clock and calendar show it, for a form: `2026-03-02T09:41`. */
export function wallClock(at: string | number): string {
  return `${day(at)}T${clockTime(at, 'it')}`
}

/** The instant at which Rome's clock shows this; null when it is no such time. A time that the clocks leap over is the one an hour later. */
export function instantOf(wall: string): string | null {
  const utc = /^\d{4}-\d\d-\d\dT\d\d:\d\d$/.test(wall) ? Date.parse(`${wall}Z`) : NaN
  if (Number.isNaN(utc)) return null
  const ahead = (at: number) => Date.parse(`${wallClock(at)}Z`) - at
  const near = utc - ahead(utc) // on the right side of the clocks' change, or an hour beside it
  return new Date(utc - ahead(near)).toISOString()
}
