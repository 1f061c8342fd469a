// Hold, consult and transfer from the operator's page.

import { accessible, declare, expect, noted, signIn, station, test } from './desk'

test('an operator holds a caller, asks a colleague, talks with both, and hands the call over', async ({ page, house, desk }) => {
  const phone = await desk.telephone('1001', '1s')
  const other = await desk.telephone('1002', '1s')
  await signIn(page, house, 'anna')
  await declare(page, 'Disponibile')
  desk.call('--press', '22', '--from', '+393477654321') // no other story's doctor: one with an open request hears of it first
  await noted(phone, 'lifts the handset')
  const here = station(page)
  await expect(here.phone).toContainText('In conversazione')
  await page.keyboard.press('F9')
  await expect(here.phone).toContainText('In attesa: chi ha chiamato sente la musica')
  await expect(page.getByRole('button', { name: 'Cambia stato' })).toContainText('In attesa (dalla pagina)')
  await here.phone.getByRole('button', { name: /Riprendi/ }).click()
  await expect(here.phone.getByRole('button', { name: /Attesa/ })).toBeVisible()

  await here.phone.getByRole('button', { name: 'Trasferisci', exact: true }).click()
  await expect(here.phone).toContainText('Nessun collega è disponibile adesso.')
  const bruno = await desk.colleague()
  await signIn(bruno, house, 'bruno')
  await declare(bruno, 'Disponibile')
  await here.phone.getByLabel('A chi').selectOption('operator:bruno')
  await accessible(page, 'transfer')
  await here.phone.getByRole('button', { name: 'Parlane prima' }).click()
  await expect(station(bruno).caller).toContainText('Giovanna De Angelis')
  await noted(other, 'lifts the handset')
  await expect(here.phone).toContainText('Parli con chi hai consultato')
  await expect(station(bruno).phone).toContainText('Un collega ti sta consultando')
  await here.phone.getByRole('button', { name: 'Parlate in tre' }).click()
  await expect(here.phone).toContainText('Siete in tre')
  await here.phone.getByRole('button', { name: 'Passa la chiamata' }).click()
  await expect(here.phone).toContainText('Lavorazione post-chiamata')
  await expect(station(bruno).phone.getByRole('button', { name: 'Trasferisci', exact: true })).toBeVisible()
})
