// The components of the tabs: a script of their own, which a shift does without
// and whoever manages the desk loads once.

import type { Component } from 'svelte'
import Integrations from './Integrations.svelte'
import Users from './Users.svelte'
import Services from './Services.svelte'
import Topics from './Topics.svelte'
import Register from './Register.svelte'
import Prompts from './Prompts.svelte'
import Listenings from './Listenings.svelte'

export const views: Readonly<Record<string, Component<{ rest: string }>>> = {
  anagrafica: Register,
  servizi: Services,
  argomenti: Topics,
  'messaggi-vocali': Prompts,
  utenti: Users,
  ascolti: Listenings,
  integrazioni: Integrations,
}
