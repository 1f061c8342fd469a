// The words of who listened to which recording.

import type { Language } from '../format'

const it = {
  title: 'Ascolti',
  lead: 'Chi ha ascoltato quale messaggio, e quando. I più recenti per primi.',
  filter: 'Filtra gli ascolti',
  person: 'Persona',
  everybody: 'Tutti',
  from: 'Dal',
  to: 'Al',
  failed: 'Non riesco a leggere gli ascolti.',
  none: 'Nessuno ha ascoltato messaggi.',
  noneFound: 'Nessun ascolto con questi filtri.',
  shown: (n: number, more: boolean) => (n === 1 && !more ? '1 ascolto' : more ? `I primi ${n} ascolti` : `${n} ascolti`),
  more: 'Mostra altri',
  when: 'Quando',
  who: 'Chi',
  did: 'Che cosa ha fatto',
  played: 'Ascoltato',
  handled: 'Segnato come gestito',
  recording: 'Messaggio di',
  received: 'Ricevuto',
  ticket: 'Ticket',
  listeners: 'Chi ha ascoltato',
  listenersOf: (what: string) => `Chi ha ascoltato: ${what}`,
  nobody: 'Nessuno, finora.',
}

export type ListeningWords = typeof it

const en: ListeningWords = {
  title: 'Listenings',
  lead: 'Who listened to which message, and when. The latest first.',
  filter: 'Filter the listenings',
  person: 'Person',
  everybody: 'Everybody',
  from: 'From',
  to: 'To',
  failed: 'The listenings cannot be read.',
  none: 'Nobody has listened to messages.',
  noneFound: 'No listening matches.',
  shown: (n, more) => (n === 1 && !more ? '1 listening' : more ? `The first ${n} listenings` : `${n} listenings`),
  more: 'Show more',
  when: 'When',
  who: 'Who',
  did: 'What they did',
  played: 'Listened',
  handled: 'Marked as handled',
  recording: 'Message of',
  received: 'Received',
  ticket: 'Ticket',
  listeners: 'Who listened',
  listenersOf: (what) => `Who listened: ${what}`,
  nobody: 'Nobody so far.',
}

export const words: Record<Language, ListeningWords> = { it, en }
