// A draft as a component sees it: the one of the ticket at hand, and its view.

import { desk } from './desk.svelte'
import type { Draft, View } from './draft'
import type { Ticket } from './contract'

/** Follows the draft of a ticket that may change or be missing. Call it while a component is set up. */
export function watched(ticket: () => Ticket | undefined): { readonly draft: Draft | null; readonly view: View | null } {
  let draft = $state.raw<Draft | null>(null)
  let view = $state.raw<View | null>(null)
  const number = $derived(ticket()?.number)

  $effect.pre(() => {
    const t = number ? desk.ticket(number) ?? ticket() : undefined
    if (!number || !t) {
      draft = null
      view = null
      return
    }
    const d = desk.draft(t)
    if (d === draft) return
    draft = d
  })

  $effect.pre(() => {
    const d = draft
    if (!d) return
    return d.watch((v) => (view = v))
  })

  return {
    get draft() {
      return draft
    },
    get view() {
      return view
    },
  }
}
