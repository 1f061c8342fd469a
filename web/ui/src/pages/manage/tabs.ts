// What can be managed, in the order in which it is shown. A tab is one component
// of this folder; its words are in src/words/, beside those of the other tabs.

import type { Component } from 'svelte'
import type { Language } from '../../format'

export interface Tab {
  path: string // after #/gestione/
  label: Record<Language, string>
  supervisors: boolean // for supervisors and administrators only
  view: Component<{ rest: string }>
}

export const tabs: readonly Tab[] = [
]
