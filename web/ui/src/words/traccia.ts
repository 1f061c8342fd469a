// The words of what was signalled for a call.

import type { Language } from '../format'

const it = {
  title: 'Traccia SIP',
  of: (what: string) => `Traccia SIP: ${what}`,
  none: 'Nessuna traccia: si conserva per alcuni giorni, da qualche secondo dopo la fine della chiamata.',
  ends: { carrier: 'operatore telefonico', telephone: 'telefono', node: 'nodo' } as Record<string, string>,
  sent: 'inviato a',
  received: 'ricevuto da',
  seconds: 's',
  quality: 'Qualità della linea',
  scale: '(MOS da 1 a 4,5: sotto 3,6 la linea è disturbata)',
  leg: 'Tratta',
  direction: 'Verso',
  operator: 'Operatore',
  heard: 'ricevuto',
  reached: 'inviato',
  packets: 'Pacchetti',
  lost: 'Persi',
  jitter: 'Jitter',
  trip: 'Andata e ritorno',
  again: (n: number) => (n === 1 ? 'ripetuto una volta' : `ripetuto ${n} volte`),
  left: (n: number) => (n === 1 ? 'Un messaggio nel mezzo non è stato conservato.' : `${n} messaggi nel mezzo non sono stati conservati.`),
}

export type TraceWords = typeof it

const en: TraceWords = {
  title: 'SIP trace',
  of: (what) => `SIP trace: ${what}`,
  none: 'No trace: it is kept for some days, from some seconds after the call has ended.',
  ends: { carrier: 'carrier', telephone: 'telephone', node: 'node' },
  sent: 'sent to',
  received: 'received from',
  seconds: 's',
  quality: 'Quality of the line',
  scale: '(MOS from 1 to 4.5: below 3.6 the line is disturbed)',
  leg: 'Leg',
  direction: 'Direction',
  operator: 'Operator',
  heard: 'received',
  reached: 'sent',
  packets: 'Packets',
  lost: 'Lost',
  jitter: 'Jitter',
  trip: 'Round trip',
  again: (n) => (n === 1 ? 'repeated once' : `repeated ${n} times`),
  left: (n) => (n === 1 ? 'A message in the middle was not kept.' : `${n} messages in the middle were not kept.`),
}

export const words: Record<Language, TraceWords> = { it, en }
