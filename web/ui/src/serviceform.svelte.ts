// The draft of a service as a form: what is typed, what the server has, what
// is wrong with it, and who else has written meanwhile. Nothing typed is lost:
// not by a reload, a refusal or a colleague.

import { desk } from './desk.svelte'
import { Refused, services } from './http'
import { instantOf, wallClock } from './format'
import { words } from './words/servizi'
import { blank, inside, withoutRow } from './settings'
import type { Fault, ServiceSettings, ServiceVersion } from './contract'

/** What survives a reload. */
interface Kept {
  settings: ServiceSettings
  dated: boolean
  at: string
  revision: number
  clean: string
}

export interface Raced {
  /** The draft that stands on the server; null: there is none any more. */
  theirs: ServiceVersion | null
  /** What it is compared with when it is gone. */
  force: ServiceVersion | null
}

const keyOf = (id: number) => `pronto.service.${desk.me?.name ?? ''}.${id}`

export class ServiceForm {
  settings: ServiceSettings
  /** Whether it holds from a date, and which, on Rome's clock. */
  dated = $state(false)
  at = $state('')
  /** The draft on the server that this was read from; null: there is none. */
  draft = $state.raw<ServiceVersion | null>(null)
  revision = $state(0)
  /** What the check found; null: it was not asked yet. */
  faults = $state.raw<Fault[] | null>(null)
  raced = $state.raw<Raced | null>(null)
  busy = $state(false)
  problem = $state('')
  /** Where the problem is, when the server knows. */
  field = $state('')
  recovered = false

  private clean = $state('')
  private checked = $state('')

  private constructor(readonly id: number, settings: ServiceSettings) {
    this.settings = $state(structuredClone(settings))
  }

  /** The draft that stands on the server. */
  static of(id: number, draft: ServiceVersion): ServiceForm {
    const form = new ServiceForm(id, draft.settings)
    form.adopt(draft)
    return form
  }

  /** A new draft, which begins as a version. */
  static from(id: number, version: ServiceVersion): ServiceForm {
    const form = new ServiceForm(id, version.settings)
    form.clean = form.text
    return form
  }

  /** What an earlier life of the page left unsaved. */
  static kept(id: number, draft: ServiceVersion | null): ServiceForm | null {
    try {
      const kept = JSON.parse(desk.store.getItem(keyOf(id)) ?? 'null') as Kept | null
      if (!kept) return null
      const form = new ServiceForm(id, { ...blank(), ...kept.settings }) // written by an earlier program, perhaps
      form.dated = kept.dated
      form.at = kept.at
      form.revision = kept.revision
      form.clean = kept.clean
      form.draft = draft && draft.revision === kept.revision ? draft : null
      form.recovered = true
      return form
    } catch {
      return null // not ours
    }
  }

  private get body() {
    return { settings: $state.snapshot(this.settings) as ServiceSettings, dated: this.dated, at: this.at }
  }
  private get text(): string {
    return JSON.stringify(this.body)
  }
  /** The instant from which it shall hold, in ms; null: from its publication. */
  get holdsAt(): number | null {
    const from = this.dated ? instantOf(this.at) : null
    return from === null ? null : Date.parse(from)
  }
  get dirty(): boolean {
    return this.text !== this.clean
  }
  /** What the check found is about other words than these. */
  get stale(): boolean {
    return this.faults !== null && this.text !== this.checked
  }
  get blocked(): number {
    return this.faults?.filter((f) => !f.warning).length ?? 0
  }

  /** What is unsaved goes to the browser's shelf; what is saved leaves it. */
  keep(): void {
    try {
      if (!this.dirty) desk.store.removeItem(keyOf(this.id))
      else desk.store.setItem(keyOf(this.id), JSON.stringify({ ...this.body, revision: this.revision, clean: this.clean } satisfies Kept))
    } catch {
      // full or forbidden: the page itself still has it
    }
  }
  forget(): void {
    desk.store.removeItem(keyOf(this.id))
  }

  /** The form shows what the server has. */
  adopt(draft: ServiceVersion): void {
    this.settings = structuredClone(draft.settings)
    this.dated = draft.valid_from !== null
    this.at = draft.valid_from ? wallClock(draft.valid_from) : ''
    this.draft = draft
    this.revision = draft.revision
    this.clean = this.text
    this.raced = null
    this.problem = this.field = ''
  }

  /** The server was read again. False: there is no draft any more, and nothing unsaved either. */
  seen(draft: ServiceVersion | null, force: ServiceVersion | null): boolean {
    if (this.busy || (draft?.revision ?? 0) === this.revision) {
      if (draft && draft.revision === this.revision) this.draft = draft
      return true
    }
    if (this.dirty) this.raced = { theirs: draft, force }
    else if (draft) this.adopt(draft)
    return this.dirty || draft !== null
  }

  /** Row n of a list is gone, with what was said about it. */
  remove(list: unknown[], path: string, n: number): void {
    list.splice(n, 1)
    if (this.faults) this.faults = withoutRow(this.faults, path, n)
  }
  /** What was said about a part that is no longer there. */
  unsay(path: string): void {
    if (this.faults) this.faults = this.faults.filter((f) => !inside(f.field, path))
  }

  /** Writes the draft; false when it was not, and the form says why. */
  private async write(): Promise<boolean> {
    const from = this.dated ? instantOf(this.at) : null
    if (this.dated && !from) {
      this.problem = words[desk.language].valid.bad
      this.field = 'valid_from'
      return false
    }
    const sent = this.text
    const draft = await services.save(this.id, this.body.settings, from, this.revision)
    if (this.text === sent) {
      const sentChecked = this.checked === sent
      this.adopt(draft) // numbers and empty fields as they are kept
      if (sentChecked) this.checked = this.text
    } else {
      // Somebody typed on: that stands, on top of the draft that is there now.
      this.draft = draft
      this.revision = draft.revision
      this.clean = sent
    }
    return true
  }

  /** Does one thing at a time; false when it failed, and the form says why. */
  private async attempt(work: () => Promise<boolean>): Promise<boolean> {
    if (this.busy) return false
    this.busy = true
    this.problem = this.field = ''
    try {
      return await work()
    } catch (e) {
      if (e instanceof Refused && e.status === 409) await this.lost(e)
      else if (e instanceof Refused && e.faults) this.found(e.faults)
      else {
        this.problem = desk.wrong(e)
        this.field = e instanceof Refused ? (e.field ?? '') : ''
      }
      return false
    } finally {
      this.busy = false
      this.keep()
    }
  }

  /** Somebody else was quicker: what they wrote, beside what stands here. */
  private async lost(why: Refused): Promise<void> {
    try {
      const { versions } = await services.page(this.id)
      const theirs = versions.find((v) => v.state === 'draft') ?? null
      if (theirs && theirs.revision === this.revision) this.problem = desk.wrong(why)
      else this.raced = { theirs, force: versions.find((v) => v.in_force) ?? null }
    } catch {
      this.problem = desk.wrong(why)
    }
  }

  private found(faults: Fault[]): void {
    this.faults = faults
    this.checked = this.text
  }

  save(): Promise<boolean> {
    return this.attempt(() => this.write())
  }

  check(): Promise<boolean> {
    return this.attempt(async () => {
      if ((this.dirty || this.revision === 0) && !(await this.write())) return false
      this.found((await services.check(this.id)).items)
      return true
    })
  }

  /** The version that was made of the draft; null when faults stand, or somebody was quicker. */
  async publish(): Promise<ServiceVersion | null> {
    let made: ServiceVersion | null = null
    await this.attempt(async () => {
      if ((this.dirty || this.revision === 0) && !(await this.write())) return false
      made = await services.publish(this.id, this.revision)
      return true
    })
    return made
  }

  discard(): Promise<boolean> {
    return this.attempt(async () => {
      if (this.revision > 0) await services.discard(this.id, this.revision)
      this.clean = this.text
      return true
    })
  }

  /** One's own words stand, in the place of theirs. */
  keepMine(): Promise<boolean> {
    this.revision = this.raced?.theirs?.revision ?? 0
    this.raced = null
    return this.save()
  }
}
