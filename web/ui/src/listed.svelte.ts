// A list that a page shows and acts on: read at once and again after news, one
// command at a time, and the answer of an older reading never over a newer one's.

import { desk } from './desk.svelte'

export class Listed<T> {
  items = $state.raw<T[] | null>(null)
  /** Why it could not be read, or ''. */
  problem = $state('')
  /** What a command is under way for, or ''. */
  busy = $state('')
  private asking = 0

  constructor(private readonly read: () => Promise<{ items: T[] }>) {}

  load = async (): Promise<void> => {
    const mine = ++this.asking
    try {
      const found = await this.read()
      if (mine !== this.asking) return
      this.items = found.items
      this.problem = ''
    } catch (e) {
      if (mine === this.asking) this.problem = desk.wrong(e)
    }
  }

  /** Does something about one entry and says so; the list is read again either way. */
  async act(id: string, command: () => Promise<string>): Promise<void> {
    if (this.busy) return
    this.busy = id
    try {
      desk.tell(await command())
    } catch (e) {
      desk.tell(desk.wrong(e), true)
    }
    this.busy = ''
    await this.load()
  }
}

/** A list that is read while its page is open, and again whenever `news` changes. Call it while a component is set up. */
export function listed<T>(read: () => Promise<{ items: T[] }>, news: () => unknown): Listed<T> {
  const list = new Listed(read)
  $effect(() => {
    void news()
    void list.load()
  })
  return list
}
