// Believable values for tests.

import type { Contact, Me, Pop, Seat, State, Ticket } from '../contract'

export const me: Me = { id: 1, name: 'anna', display_name: 'Anna Martini', role: 'operator', extension: '1001', wrap_up: 60 }

export function seat(more: Partial<Seat> = {}): Seat {
  return {
    operator: 'anna', display_name: 'Anna Martini', extension: '1001', declared: 'available', reason: '', declared_at: '2026-03-02T08:00:00Z', forced_by: '',
    doing: 'idle', doing_at: '2026-03-02T08:00:00Z', doing_until: null, contact_id: null, ticket: null, talk: '', talk_at: null, talk_why: '', supervision: null, supervised_why: '', can_ring: true, cannot_ring_why: '', topics: [1, 2], version: 1, active: true, ...more,
  }
}

export function ticket(more: Partial<Ticket> = {}): Ticket {
  return {
    number: '2026-1', status: 'open', subject: '', description: '', call_type: 'intervento', topic: { id: 2, code: 'certificati', name: 'Certificati' }, urgency: 2,
    fault_type: '', channel: 'phone', customer: null, requester_name: 'Mario Rossi', requester_number: '+390551234567', practice: '', authority: '', outcome: '',
    solution: '', owner: null, received_at: '2026-03-02T08:29:00Z', opened_at: '2026-03-02T08:29:10Z', taken_at: null, closed_at: null, closed_by: null, version: 1, ...more,
  }
}

export function contact(more: Partial<Contact> = {}): Contact {
  return {
    id: 'c1', call_id: 'x', channel: 'phone', caller: '+390551234567', caller_source: 'asserted', dialled: '800123456', service: 'Assistenza', customer: null,
    match: 'certain', topic: { id: 2, code: 'certificati', name: 'Certificati' }, urgency: 2, t0: '2026-03-02T08:29:00Z', ta: null, ts: null, tq: null, tr: null, tc: null, te: null, tw: null,
    tk: null, ending: null, ticket: '2026-1', operator: null, number_told: false, ring_back: null, direction: 'inbound', outcome: '', settings_version: 1, has_recording: false, talk_until: null, legs: [], ...more,
  }
}

export function pop(more: Partial<Pop> = {}): Pop {
  return {
    offer: { id: 'o1', offered_at: '2026-03-02T08:30:00Z', expires_at: '2026-03-02T08:30:20Z' }, contact: contact(),
    match: { sure: 'certain', why: 'Il numero è di un solo medico.', customers: [{ id: 7, code: '1042', name: 'Mario Rossi', practice: 'Via Gioberti', authority: 'USL Centro', email: '', numbers: ['+390551234567'] }] },
    open_tickets: [], calls_today: 1, ticket: ticket(), callback: null, ...more,
  }
}

export function state(more: Partial<State> = {}): State {
  return { me, seat: seat(), operators: [seat()], waiting: [], pop: null, messages_new: 0, ringbacks_due: 0, callbacks_open: 0, can_dial: true, cannot_dial_why: '', can_transfer_out: false, can_supervise: false, emergency: { active: false, clip: '', since: null, until: null }, now: '2026-03-02T08:30:00Z', ...more }
}
