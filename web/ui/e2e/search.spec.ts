// The search of the top bar, on a real desk with its demo register.

import { accessible, expect, signIn, test } from './desk'

test('a misspelt name and the last digits of a number find the doctor', async ({ page, house }) => {
  await signIn(page, house, 'anna')
  await page.keyboard.press('Control+k')
  await page.keyboard.type('mario rosi')
  await page.keyboard.press('Enter')
  const people = page.getByRole('region', { name: 'Persone' })
  await expect(people).toContainText('Forse cercavi')
  await expect(people).toContainText('Mario Rossi')
  await accessible(page, 'search')

  await page.keyboard.press('Control+k')
  await page.keyboard.type('9876543')
  await page.keyboard.press('Enter')
  await expect(page.getByRole('region', { name: 'Numeri' })).toContainText('Numero di 2 persone')
  await expect(people).toContainText('Giovanna De Angelis')

  await page.goto('/#/cerca?q=zzzzzz')
  await expect(page.getByText('Nessun risultato per «zzzzzz».')).toBeVisible()
})
