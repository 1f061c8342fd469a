// The words of a talk's buttons: hold, transfer.

import type { Language } from '../format'

const it = {
  hold: 'Attesa',
  resume: 'Riprendi',
  heldNow: 'In attesa: chi ha chiamato sente la musica e non ti sente.',
  transfer: 'Trasferisci',
  to: 'A chi',
  choose: 'Scegli…',
  colleagues: 'Colleghi disponibili',
  topics: 'Argomenti: rimette in coda',
  nobody: 'Nessun collega è disponibile adesso.',
  give: 'Trasferisci subito',
  cancel: 'Annulla',
  recorded: 'La conversazione è registrata.',
  pausedNow: 'Registrazione sospesa: quello che dite non resta.',
  pause: 'Sospendi registrazione',
  goOn: 'Riprendi registrazione',
  asked: { hold: 'Chiamata in attesa', resume: 'Conversazione ripresa', transfer: 'Trasferimento in corso' } as Record<string, string>,
  why: {
    held_long: 'L’attesa è durata troppo: siete di nuovo in conversazione.',
    not_free: 'Il collega non è più disponibile.',
    declined: 'Il collega ha rifiutato.',
    no_answer: 'Nessuna risposta.',
    unreachable: 'Il telefono del collega non squilla.',
    fault: 'Non è stato possibile: riprova.',
  } as Record<string, string>,
}

const en: typeof it = {
  hold: 'Hold',
  resume: 'Resume',
  heldNow: 'On hold: the caller hears music and does not hear you.',
  transfer: 'Transfer',
  to: 'To whom',
  choose: 'Choose…',
  colleagues: 'Colleagues who are free',
  topics: 'Topics: back to the queue',
  nobody: 'No colleague is free now.',
  give: 'Transfer now',
  cancel: 'Cancel',
  recorded: 'The talk is recorded.',
  pausedNow: 'The recording is paused: what you say is not kept.',
  pause: 'Pause the recording',
  goOn: 'Go on recording',
  asked: { hold: 'The call is held', resume: 'You are talking again', transfer: 'Being transferred' },
  why: {
    held_long: 'It was held for too long: you are talking again.',
    not_free: 'The colleague is no longer free.',
    declined: 'The colleague declined.',
    no_answer: 'No answer.',
    unreachable: 'The colleague’s telephone does not ring.',
    fault: 'It could not be done: try again.',
  },
}

export const words: Record<Language, typeof it> = { it, en }
