// The form of somebody of the register. What was typed outlives the page: a call
// that comes meanwhile takes the operator elsewhere.

import type { Conflict, RegisterEntry } from './contract'
import { phone } from './format'

export const lines = ['name', 'code', 'practice', 'authority', 'email'] as const
export type Line = (typeof lines)[number]
export type PersonField = Line | 'numbers'
type Values = Record<Line, string> & { numbers: string[] }

const empty = (): Values => ({ name: '', code: '', practice: '', authority: '', email: '', numbers: [] })
const of = (e: RegisterEntry): Values => ({ name: e.name, code: e.code, practice: e.practice, authority: e.authority, email: e.email, numbers: e.numbers })
const typed = (numbers: string[]) => numbers.map((n) => n.trim()).filter(Boolean)

export class PersonForm {
  /** As the server had each field when it began to be changed. */
  private base = $state<Values>(empty())
  values = $state<Values>(empty())
  conflicts = $state<Partial<Record<PersonField, Conflict>>>({})
  /** What the server refused, and the field it is about, if any. */
  refused = $state.raw<{ field: string; text: string } | null>(null)

  /** The fields that were changed. */
  get changed(): PersonField[] {
    const same = (f: PersonField) => f === 'numbers'
      ? String(typed(this.values.numbers)) === String(this.base.numbers.map(phone))
      : this.values[f].trim() === this.base[f]
    return [...lines, 'numbers' as const].filter((f) => !same(f))
  }

  /** The person as the server has them now: fields that nobody is changing follow. */
  learn(e: RegisterEntry): void {
    const now = of(e)
    const mine = new Set(this.changed)
    for (const f of lines) if (!mine.has(f)) this.put(f, now)
    if (!mine.has('numbers')) this.put('numbers', now)
  }

  /** Saved, or thrown away. */
  begin(e: RegisterEntry | null): void {
    this.base = e ? of(e) : empty()
    this.values = { ...this.base, numbers: this.base.numbers.map(phone) }
    this.conflicts = {}
    this.refused = null
  }

  private put(f: PersonField, from: Values): void {
    if (f === 'numbers') {
      this.base.numbers = from.numbers
      this.values.numbers = from.numbers.map(phone)
    } else {
      this.base[f] = from[f]
      this.values[f] = from[f]
    }
  }

  /** Base and new values of what was changed. */
  edit(): { base: Partial<Values>; set: Partial<Values> } {
    const pick = (from: Values) => Object.fromEntries(this.changed.map((f) => [f, f === 'numbers' ? typed(from.numbers) : from[f].trim()]))
    return { base: pick(this.base), set: pick(this.values) }
  }

  /** Everything, for somebody new. */
  whole(): Values {
    const all = { ...this.values, numbers: typed(this.values.numbers) }
    for (const f of lines) all[f] = all[f].trim()
    return all
  }

  /** Overwrites what somebody else wrote, at the next saving. */
  keepMine(f: PersonField): void {
    const c = this.conflicts[f]
    if (!c) return
    if (f === 'numbers') this.base.numbers = listOf(c)
    else this.base[f] = String(c.current ?? '')
    delete this.conflicts[f]
  }

  takeTheirs(f: PersonField): void {
    const c = this.conflicts[f]
    if (!c) return
    this.put(f, { ...this.base, ...(f === 'numbers' ? { numbers: listOf(c) } : { [f]: String(c.current ?? '') }) })
    delete this.conflicts[f]
  }
}

/** The other's numbers. */
const listOf = (c: Conflict): string[] => (c.current as unknown as string[] | null) ?? []

/** What somebody else wrote, as it is shown. */
export const theirs = (f: PersonField, c: Conflict): string => (f === 'numbers' ? listOf(c).map(phone).join(', ') : String(c.current ?? ''))

const open = new Map<number, PersonForm>()

/** The form of a person, 0 for somebody new, with what was typed before. */
export function formOf(id: number): PersonForm {
  let form = open.get(id)
  if (!form) open.set(id, (form = new PersonForm()))
  return form
}
