// An operator's state in words, wherever it is shown.

import type { Declared, Seat } from './contract'
import type { Words } from './words'

/** The declared state with its reason: `In pausa: Pranzo`. */
export function declaredWords(seat: Seat, w: Words): string {
  if (seat.declared !== 'break') return w.declared[seat.declared] ?? seat.declared
  const why = w.pausedBy[seat.reason] ?? w.reasons[seat.reason] ?? seat.reason
  return why ? `${w.declared.break}: ${why}` : w.declared.break
}

/** Three hear each other; also on the page of who was asked, whose talk it is not. */
export const inThree = (seat: Seat): boolean => seat.talk === 'conference' || (seat.talk === 'advising' && seat.talk_why === 'conference')

/** What the desk does with an operator; a talk that is not of the two says what it is, and one that is held by what. */
export function doingWords(seat: Seat, w: Words): string {
  if (seat.doing !== 'talking' || !seat.talk) return w.doing[seat.doing]
  if (seat.talk === 'held' && seat.talk_why === 'telephone') return w.talks.heldByTelephone
  return inThree(seat) ? w.talks.conference : w.talks[seat.talk]
}

/** The instant from which the shown state holds. An operator who is available waits since the last call. */
export function stateSince(seat: Seat): string {
  if (seat.doing === 'talking' && seat.talk && seat.talk_at) return seat.talk_at
  if (seat.doing !== 'idle') return seat.doing_at
  if (seat.declared === 'available' && seat.doing_at > seat.declared_at) return seat.doing_at
  return seat.declared_at
}

export function declaredIcon(declared: Declared): 'check' | 'pause' | 'pen' | 'off' {
  return ({ available: 'check', break: 'pause', admin: 'pen', off: 'off' } as const)[declared] ?? 'off'
}

export function doingIcon(seat: Seat): 'check' | 'ring' | 'phone' | 'pause' | 'wrap' {
  if (seat.doing === 'talking' && seat.talk === 'held') return 'pause'
  return ({ idle: 'check', offered: 'ring', talking: 'phone', wrapping: 'wrap' } as const)[seat.doing] ?? 'check'
}

/** The desk itself paused the operator: nobody answered, or the telephone could not be reached. */
export function pausedByDesk(seat: Seat | null): '' | 'missed' | 'phone_unreachable' {
  if (seat?.declared !== 'break') return ''
  return seat.reason === 'missed' || seat.reason === 'phone_unreachable' ? seat.reason : ''
}
