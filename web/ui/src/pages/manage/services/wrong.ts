// How a control says that something is wrong with it.

import { inside } from '../../../settings'
import type { ServiceForm } from '../../../serviceform.svelte'

/** A control's attributes: its own faults, or those of the row that it is part of; `told` is where they are shown. */
export function wrong(form: ServiceForm, field: string, row = field, told = row): { 'aria-invalid'?: true; 'aria-describedby'?: string } {
  const faults = (form.faults ?? []).filter((f) => !f.warning)
  const bad = form.field === field || faults.some((f) => f.field === row || inside(f.field, field))
  return bad ? { 'aria-invalid': true, 'aria-describedby': `fault-${told}` } : {}
}
