// Who signs in, and what programs do in their name: readings and commands.

import { request } from './http'
import type { components } from './openapi'

type Schemas = components['schemas']

export type Account = Schemas['Account']
export type Role = Account['role']
export type Profile = Omit<Schemas['NewUserInputBody'], 'name'>
export type Token = Schemas['Token']
export type Scope = Token['scope']
export type Webhook = Schemas['Webhook']
export type WebhookEvent = Schemas['WebhookInputBody']['events'][number]

const q = encodeURIComponent

export const accounts = {
  list: () => request<{ items: Account[] }>('GET', '/users'),
  add: (name: string, profile: Profile) => request<Schemas['NewAccount']>('POST', '/users', { name, ...profile }),
  edit: (name: string, version: number, profile: Profile) => request<Account>('PUT', `/users/${q(name)}`, { version, ...profile }),
  activate: (name: string) => request<Account>('POST', `/users/${q(name)}/activate`),
  deactivate: (name: string) => request<Account>('POST', `/users/${q(name)}/deactivate`),
  signOut: (name: string) => request<void>('POST', `/users/${q(name)}/signout`),
  link: (name: string) => request<Schemas['Link']>('POST', `/users/${q(name)}/reset`),
}

export const tokens = {
  list: () => request<{ items: Token[] }>('GET', '/tokens'),
  make: (label: string, scope: Scope, days: number) => request<Schemas['NewToken']>('POST', '/tokens', { label, scope, days }),
  revoke: (id: number) => request<void>('DELETE', `/tokens/${id}`),
}

export const webhooks = {
  list: () => request<{ items: Webhook[] }>('GET', '/webhooks'),
  add: (url: string, events: WebhookEvent[]) => request<Schemas['NewWebhook']>('POST', '/webhooks', { url, events }),
  enable: (id: string) => request<void>('POST', `/webhooks/${q(id)}/enable`),
  disable: (id: string) => request<void>('POST', `/webhooks/${q(id)}/disable`),
  remove: (id: string) => request<void>('DELETE', `/webhooks/${q(id)}`),
}

/** A link as somebody else can open it: the server may not know its own address. */
export const whole = (link: string) => new URL(link, location.origin).href
