// What can be managed, in the order in which it is shown. A tab is one component
// of this folder; its words are in src/words/, beside those of the other tabs.

import type { Component } from 'svelte'
import type { Language } from '../../format'
import Integrations from './Integrations.svelte'
import Users from './Users.svelte'
import Services from './Services.svelte'
import Topics from './Topics.svelte'
import Register from './Register.svelte'
import Prompts from './Prompts.svelte'
import Listenings from './Listenings.svelte'

export interface Tab {
  path: string // after #/gestione/
  label: Record<Language, string>
  supervisors: boolean // for supervisors and administrators only
  view: Component<{ rest: string }>
}

export const tabs: readonly Tab[] = [
  { path: 'anagrafica', label: { it: 'Anagrafica', en: 'Register' }, supervisors: false, view: Register },
  { path: 'servizi', label: { it: 'Servizi', en: 'Services' }, supervisors: true, view: Services },
  { path: 'argomenti', label: { it: 'Argomenti', en: 'Topics' }, supervisors: true, view: Topics },
  { path: 'messaggi-vocali', label: { it: 'Messaggi vocali', en: 'Prompts' }, supervisors: true, view: Prompts },
  { path: 'utenti', label: { it: 'Utenti', en: 'Users' }, supervisors: true, view: Users },
  { path: 'ascolti', label: { it: 'Ascolti', en: 'Listenings' }, supervisors: true, view: Listenings },
  { path: 'integrazioni', label: { it: 'Integrazioni', en: 'Integrations' }, supervisors: false, view: Integrations },
]
