// A person as they are typed: kept as text until it is sent, so that nothing of
// it is lost when it is refused.

import { tick } from 'svelte'
import { desk } from '../../../desk.svelte'
import { Refused } from '../../../http'
import type { Account, Profile } from '../../../accounts'

export class Form {
  name = $state('')
  display = $state('')
  role = $state<Profile['role']>('operator')
  extension = $state('')
  wrapUp = $state('60')
  /** By a topic's code, 0 for who does not answer. */
  levels = $state<Record<string, number>>({})

  busy = $state(false)
  problem = $state('')
  /** What the problem is about, as the API names it; '' for the whole. */
  field = $state('')

  constructor(a?: Account) {
    if (a) this.show(a)
  }

  show(a: Account): void {
    this.name = a.name
    this.display = a.display_name
    this.role = a.role
    this.extension = a.extension
    this.wrapUp = String(a.wrap_up)
    this.levels = Object.fromEntries(a.skills.map((s) => [s.topic, s.level]))
    this.settle()
  }

  settle(): void {
    this.problem = ''
    this.field = ''
  }

  get profile(): Profile {
    return {
      display_name: this.display,
      role: this.role,
      extension: this.extension.trim(),
      wrap_up: Number(this.wrapUp),
      skills: Object.entries(this.levels).filter(([, level]) => level > 0).map(([topic, level]) => ({ topic, level })),
    }
  }

  /** Runs what sends the form; false, with the reason beside its field, when it was refused. */
  async send(command: () => Promise<void>, wrongWrapUp: string): Promise<boolean> {
    if (this.busy) return false
    this.settle()
    if (!/^\d{1,4}$/.test(this.wrapUp.trim()) || Number(this.wrapUp) > 3600) {
      this.refuse('wrap_up', wrongWrapUp)
      return false
    }
    this.busy = true
    try {
      await command()
      return true
    } catch (e) {
      this.refuse(e instanceof Refused ? (e.field ?? '').replace(/[[.].*/, '') : '', desk.wrong(e))
      return false
    } finally {
      this.busy = false
    }
  }

  private refuse(field: string, problem: string): void {
    this.field = field
    this.problem = problem
    void tick().then(() => document.getElementById(`user-${field}`)?.focus())
  }
}

/** What somebody answers for, the best first. */
export function skillsOf(a: Account, said: (topic: string, level: number) => string): string {
  return a.skills
    .map((s) => ({ name: desk.topics.find((t) => t.code === s.topic)?.name ?? s.topic, level: s.level }))
    .sort((x, y) => x.level - y.level || x.name.localeCompare(y.name, 'it'))
    .map((s) => said(s.name, s.level))
    .join(', ')
}
