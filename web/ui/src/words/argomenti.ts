// The words of Gestione › Argomenti.

import type { Language } from '../format'

const it = {
  title: 'Argomenti',
  lead: 'A chi vanno le chiamate di ogni argomento mentre aspettano: subito agli operatori di livello 1, dopo un po’ anche ai livelli 2 e 3, e poi a chi conosce un altro argomento (trabocco). Vale da subito, anche per chi è già in coda.',
  failed: 'Gli argomenti non si sono caricati.',
  none: 'Non c’è ancora nessun argomento.',
  knows: (n: readonly number[]) => `Operatori: livello 1: ${n[0] ?? 0} · livello 2: ${n[1] ?? 0} · livello 3: ${n[2] ?? 0}`,
  nobody: 'Nessun operatore conosce questo argomento',
  second: 'Livello 2 dopo',
  third: 'Livello 3 dopo',
  overflow: 'Trabocco verso',
  nowhere: 'Nessuno',
  after: 'Trabocco dopo',
  seconds: 'secondi',
  atOnce: 'Subito.',
  means: (t: string) => `Sono ${t}.`,
  save: 'Salva',
  saveOf: (topic: string) => `Salva: ${topic}`,
  saved: (topic: string) => `${topic}: salvato, vale da subito`,
  undo: 'Annulla',
  undoOf: (topic: string) => `Annulla le modifiche: ${topic}`,
  raced: (now: string) => `Un altro supervisore ha cambiato l’argomento mentre scrivevi. Ora vale: ${now}. Ciò che hai scritto è ancora qui: salvalo o annullalo.`,
  route: (second: string, third: string) => `livello 2 dopo ${second}, livello 3 dopo ${third}`,
  then: (topic: string, after: string) => `, trabocco verso ${topic} dopo ${after}`,
}

type TopicWords = typeof it

const en: TopicWords = {
  title: 'Topics',
  lead: 'Who gets the callers of each topic while they wait: operators of level 1 at once, levels 2 and 3 after a while, then those who know another topic (overflow). It holds at once, for those in the queue, too.',
  failed: 'The topics could not be loaded.',
  none: 'There is no topic yet.',
  knows: (n) => `Operators: level 1: ${n[0] ?? 0} · level 2: ${n[1] ?? 0} · level 3: ${n[2] ?? 0}`,
  nobody: 'No operator knows this topic',
  second: 'Level 2 after',
  third: 'Level 3 after',
  overflow: 'Overflow to',
  nowhere: 'Nobody',
  after: 'Overflow after',
  seconds: 'seconds',
  atOnce: 'At once.',
  means: (t) => `That is ${t}.`,
  save: 'Save',
  saveOf: (topic) => `Save: ${topic}`,
  saved: (topic) => `${topic}: saved, holds at once`,
  undo: 'Undo',
  undoOf: (topic) => `Undo the changes: ${topic}`,
  raced: (now) => `Another supervisor changed the topic while you were writing. Now it is: ${now}. What you wrote is still here: save it or undo it.`,
  route: (second, third) => `level 2 after ${second}, level 3 after ${third}`,
  then: (topic, after) => `, overflow to ${topic} after ${after}`,
}

export const words: Record<Language, TopicWords> = { it, en }
