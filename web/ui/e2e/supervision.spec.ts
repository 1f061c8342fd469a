// A supervisor in an operator's talk: allowed by a service, asked for in Sala,
// always seen by the operator.

import { accessible, declare, expect, noted, signIn, station, test } from './desk'

test('a supervisor listens to an operator who reads it, speaks to them, takes part, and leaves', async ({ page, house, desk }) => {
  house.addSupervisor('giulia', 'Giulia Neri', '1900')
  await signIn(page, house, 'giulia')

  // A service allows it with the agreement only.
  await page.goto('/#/gestione/servizi')
  await page.getByRole('link', { name: 'Assistenza medici, sempre attiva', exact: true }).click()
  await page.getByRole('button', { name: 'Modifica', exact: true }).click()
  await page.getByLabel('I supervisori possono ascoltare le conversazioni').check()
  const side = page.getByRole('complementary', { name: 'Pubblica' })
  await side.getByRole('button', { name: 'Pubblica', exact: true }).click()
  await expect(side).toContainText('art. 4 della legge 300/1970')
  await accessible(page, 'a service without the agreement')
  await page.getByLabel('Accordo che permette l’ascolto').fill('Accordo del 15/01/2026')
  await side.getByRole('button', { name: 'Pubblica', exact: true }).click()
  await expect(page.getByRole('region', { name: 'In vigore' })).toContainText('Accordo del 15/01/2026')

  const phone = await desk.telephone('1001', '1s')
  const anna = await desk.colleague()
  await signIn(anna, house, 'anna')
  await declare(anna, 'Disponibile')
  const doctor = desk.call('--press', '22', '--from', '+390571222333')
  await noted(phone, 'lifts the handset')
  await expect(station(anna).phone).toContainText('In conversazione')

  // Whose telephone cannot ring is told why.
  await page.goto('/#/sala')
  await page.reload() // whether any service allows it was read when the page opened
  const row = page.getByRole('region', { name: 'Operatori' }).getByRole('row', { name: /Anna/ })
  const listen = row.getByRole('button', { name: 'Ascolta la conversazione di Anna' })
  await expect(listen).toBeDisabled()
  await expect(listen).toHaveAccessibleDescription(/1900 non è registrato/)
  const mine = await desk.telephone('1900', '1s')
  await expect(listen).toBeEnabled()
  await listen.click()
  const part = page.getByRole('region', { name: 'Conversazione di Anna' })
  await noted(mine, 'lifts the handset')
  await expect(part).toContainText('Senti entrambi; nessuno sente te.')
  await expect(part.getByRole('button', { name: 'Solo ascolto' })).toHaveAttribute('aria-pressed', 'true')
  await expect(row).toContainText('con Giulia Neri: ascolta')
  const seen = anna.getByRole('region', { name: 'Ascolto' })
  await expect(seen).toContainText('Giulia Neri sta ascoltando questa conversazione.')
  await accessible(page, 'listening')
  await accessible(anna, 'listened to')

  await part.getByRole('button', { name: 'Parla all’operatore' }).click()
  await expect(seen).toContainText('Giulia Neri ascolta e ti parla: chi ha chiamato non sente la sua voce.')
  await expect(part).toContainText('Ti sente solo l’operatore')
  await part.getByRole('button', { name: 'Parla a entrambi' }).click()
  await expect(seen).toContainText('sentite entrambi la sua voce')
  await anna.keyboard.press('F9')
  await expect(part).toContainText('Adesso non si parlano')
  await anna.keyboard.press('F9')
  await expect(part).toContainText('Vi sentite tutti e tre.')

  await part.getByRole('button', { name: 'Lascia la conversazione' }).click()
  await expect(part).toBeHidden()
  await expect(seen).toBeHidden()
  await expect(listen).toBeEnabled()
  await expect(station(anna).phone).toContainText('In conversazione')
  const kinds = (await house.contact(doctor.callID)).journal.map((l) => l.kind).filter((k) => k.startsWith('supervision'))
  expect(kinds).toEqual(['supervision_asked', 'supervision_began', 'supervision_changed', 'supervision_changed', 'supervision_ended'])
})
