// The words of a supervisor's part in an operator's talk, on both pages.

import type { Language } from '../format'
import type { Part } from '../contract'

const it = {
  title: 'Ascolto',
  listen: 'Ascolta',
  listenTo: (who: string) => `Ascolta la conversazione di ${who}`,
  mine: (who: string) => `Conversazione di ${who}`,
  ringing: (ext: string) => `Squilla il tuo telefono: solleva la cornetta (interno ${ext}).`,
  apart: 'Adesso non si parlano (attesa o consultazione): non senti e nessuno ti sente, finché non riprendono.',
  parts: { listen: 'Solo ascolto', whisper: 'Parla all’operatore', barge: 'Parla a entrambi' } as Record<Part, string>,
  means: {
    listen: 'Senti entrambi; nessuno sente te.',
    whisper: 'Ti sente solo l’operatore: l’altra persona no.',
    barge: 'Vi sentite tutti e tre.',
  } as Record<Part, string>,
  choose: 'Come partecipi',
  leave: 'Lascia la conversazione',
  notice: 'L’operatore lo legge sulla sua pagina, e resta nella storia della chiamata.',
  badge: (who: string, part: string) => `con ${who}: ${part}`,
  badges: { listen: 'ascolta', whisper: 'parla all’operatore', barge: 'parla a entrambi' } as Record<Part, string>,
  badgeRinging: (who: string) => `${who}: squilla`,
  asked: (who: string) => `Conversazione di ${who}: squilla il tuo telefono`,
  over: (who: string) => `Non partecipi più alla conversazione di ${who}`,
  why: {
    declined: 'Hai rifiutato sul telefono: l’ascolto non è iniziato.',
    no_answer: 'Non hai sollevato la cornetta: l’ascolto non è iniziato.',
    unreachable: 'Il tuo telefono non squilla: controlla che sia acceso e collegato.',
    fault: 'Non è stato possibile: riprova.',
  } as Record<string, string>,
  cannot: {
    noPhone: 'Per ascoltare serve un telefono: non hai un interno.',
    busy: 'Hai una chiamata: ascolta quando è finita.',
    elsewhere: 'Partecipi già a una conversazione.',
    taken: (who: string) => `${who} partecipa già a questa conversazione.`,
    apart: 'Adesso non si parlano: riprova quando riprendono.',
  },
  attended: (part: Part, who: string, far: string) =>
    ({
      listen: `${who} sta ascoltando questa conversazione.`,
      whisper: `${who} ascolta e ti parla: ${far} non sente la sua voce.`,
      barge: `${who} partecipa alla conversazione: sentite entrambi la sua voce.`,
    })[part],
}

const en: typeof it = {
  title: 'Listening in',
  listen: 'Listen',
  listenTo: (who) => `Listen to the talk of ${who}`,
  mine: (who) => `The talk of ${who}`,
  ringing: (ext) => `Your telephone rings: lift the handset (extension ${ext}).`,
  apart: 'They do not hear each other now (hold or consultation): you hear nothing, and nobody hears you, until they do.',
  parts: { listen: 'Listen only', whisper: 'Speak to the operator', barge: 'Speak to both' },
  means: {
    listen: 'You hear both; nobody hears you.',
    whisper: 'Only the operator hears you: the other person does not.',
    barge: 'All three hear each other.',
  },
  choose: 'How you take part',
  leave: 'Leave the talk',
  notice: 'The operator reads it on their page, and it stays in the history of the call.',
  badge: (who, part) => `with ${who}: ${part}`,
  badges: { listen: 'listens', whisper: 'speaks to the operator', barge: 'speaks to both' },
  badgeRinging: (who) => `${who}: ringing`,
  asked: (who) => `The talk of ${who}: your telephone rings`,
  over: (who) => `You no longer take part in the talk of ${who}`,
  why: {
    declined: 'You declined at the telephone: listening has not begun.',
    no_answer: 'You did not lift the handset: listening has not begun.',
    unreachable: 'Your telephone does not ring: see that it is on and connected.',
    fault: 'It could not be done: try again.',
  },
  cannot: {
    noPhone: 'To listen you need a telephone: you have no extension.',
    busy: 'You have a call: listen when it is over.',
    elsewhere: 'You take part in a talk already.',
    taken: (who) => `${who} takes part in this talk already.`,
    apart: 'They do not hear each other now: try again when they do.',
  },
  attended: (part, who, far) =>
    ({
      listen: `${who} is listening to this talk.`,
      whisper: `${who} listens and speaks to you: ${far} does not hear their voice.`,
      barge: `${who} takes part in the talk: you both hear their voice.`,
    })[part],
}

export const words: Record<Language, typeof it> = { it, en }
