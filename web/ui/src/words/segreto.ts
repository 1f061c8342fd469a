// The words of what is shown once: links, tokens, the secrets of webhooks.

import type { Language } from '../format'

const it = {
  copy: 'Copia',
  copied: 'Copiato.',
  byHand: 'È selezionato: premi Ctrl+C per copiarlo.',
}

const en: typeof it = {
  copy: 'Copy',
  copied: 'Copied.',
  byHand: 'It is selected: press Ctrl+C to copy it.',
}

export const words: Record<Language, typeof it> = { it, en }
