// Takes docs/console.png: the operator's page of a real desk while it rings.

import { fileURLToPath } from 'node:url'
import { declare, expect, noted, signIn, station, test } from './desk'

test('the console while a call is ringing', async ({ page, house, desk }) => {
  await signIn(page, house, 'anna')
  const phone = await desk.telephone('1001', '-1s')
  // A first call that nobody took, a second that rings, a third that waits.
  const before = desk.call('--press', '31')
  await expect.poll(async () => (await house.api<{ waiting: unknown[] }>('/snapshot')).waiting.length).toBe(1)
  await before.hangUp()
  await expect.poll(async () => (await house.contact(before.callID)).ending).toBe('abandoned_queue')
  await declare(page, 'Disponibile')
  desk.call('--press', '22')
  await noted(phone, 'rings')
  desk.call('--press', '12', '--from', '+393477654321')
  await expect(page.getByRole('region', { name: 'Chi aspetta' })).toContainText('Giovanna De Angelis')
  await expect(station(page).caller).toContainText('Mario Rossi')
  await page.mouse.move(0, 0)
  await page.screenshot({ path: fileURLToPath(new URL('../../../docs/console.png', import.meta.url)), animations: 'disabled' })
})
