// What can be managed, in the order in which it is shown. A tab is one component
// of this folder (see views.ts); its words are in src/words/, beside those of the
// other tabs.

import type { Language } from '../../format'

export interface Tab {
  path: string // after #/gestione/
  label: Record<Language, string>
  supervisors: boolean // for supervisors and administrators only
}

export const tabs: readonly Tab[] = [
  { path: 'anagrafica', label: { it: 'Anagrafica', en: 'Register' }, supervisors: false },
  { path: 'servizi', label: { it: 'Servizi', en: 'Services' }, supervisors: true },
  { path: 'argomenti', label: { it: 'Argomenti', en: 'Topics' }, supervisors: true },
  { path: 'messaggi-vocali', label: { it: 'Messaggi vocali', en: 'Prompts' }, supervisors: true },
  { path: 'utenti', label: { it: 'Utenti', en: 'Users' }, supervisors: true },
  { path: 'ascolti', label: { it: 'Ascolti', en: 'Listenings' }, supervisors: true },
  { path: 'integrazioni', label: { it: 'Integrazioni', en: 'Integrations' }, supervisors: false },
]
