// Who listened to which message: beside the message, and all of them.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { accessible, expect, signIn, test } from './desk'
import { voice } from './house'

test('who listens to a message is seen beside it and among all listenings', async ({ page, house, desk }) => {
  const speech = join(house.dir, 'ascolti.wav')
  writeFileSync(speech, voice(60))
  const doctor = desk.call('--to', '800000002', '--say', speech)
  await signIn(page, house, 'carla')
  await expect.poll(async () => (await house.contact(doctor.callID)).journal.some((j) => j.kind === 'recording'), { timeout: 40_000 }).toBe(true)
  const began = Date.now()
  await expect.poll(() => Date.now() - began, { message: 'the doctor speaks' }).toBeGreaterThan(3000)
  await doctor.hangUp()
  await expect.poll(async () => (await house.contact(doctor.callID)).ending).toBe('voicemail')
  const { ticket } = await house.contact(doctor.callID)

  await page.goto('/#/segreteria')
  const row = page.getByRole('row').filter({ has: page.getByRole('link', { name: ticket ?? '', exact: true }) })
  const listeners = row.locator('details')
  await listeners.locator('summary').click()
  await expect(listeners).toContainText('Nessuno, finora.')
  const audio = row.locator('audio')
  await audio.evaluate((a: HTMLAudioElement) => a.play())
  await expect.poll(() => audio.evaluate((a: HTMLAudioElement) => a.currentTime), { message: 'it plays' }).toBeGreaterThan(0)
  await listeners.locator('summary').click() // closed, and opened again it is read again
  await listeners.locator('summary').click()
  await expect(listeners).toContainText('Carla Supervisore ascoltato')
  await accessible(page, 'who listened')

  await page.goto('/#/gestione/ascolti')
  await expect(page.getByRole('heading', { name: 'Ascolti' })).toBeVisible()
  const line = page.getByRole('row').filter({ has: page.getByRole('link', { name: ticket ?? '', exact: true }) })
  await expect(line).toContainText('Carla Supervisore')
  await expect(line).toContainText('Mario Rossi')
  await accessible(page, 'all listenings')
  await page.getByLabel('Persona').selectOption('Carla Supervisore')
  await expect(line).toBeVisible()
  await page.getByLabel('Dal').fill('2099-01-01')
  await expect(page.getByText('Nessun ascolto con questi filtri.')).toBeVisible()
  await page.getByLabel('Al', { exact: true }).fill('2098-01-01')
  await expect(page.getByRole('alert')).toContainText('La fine viene prima dell\'inizio.')
  await page.getByLabel('Dal').fill('')
  await expect(line).toBeVisible()
  await line.getByRole('link').click()
  await expect(page.getByRole('heading', { name: new RegExp(`Ticket ${ticket}`) })).toBeVisible()
  await page.getByText('Chi ha ascoltato').click()
  await expect(page.locator('details.listeners', { hasText: 'Chi ha ascoltato' })).toContainText('Carla Supervisore')

  // What was signalled, as a carrier may see it: no number, no name, no pressed key.
  const trace = page.locator('details.listeners', { hasText: 'Traccia SIP' }).first()
  await expect(async () => {
    await trace.evaluate((d: HTMLDetailsElement) => { d.open = false })
    await trace.locator('> summary').click()
    await expect(trace).toContainText('BYE sip:', { timeout: 2000 })
  }).toPass({ timeout: 40_000 })
  await trace.locator('summary', { hasText: 'INVITE sip:80*****02@' }).click()
  await expect(trace).toContainText('m=audio')
  await expect(trace.getByRole('table', { name: /^Qualità della linea/ }).getByRole('row', { name: /^Chi ha chiamato ricevuto/ })).toContainText(/0,00\s?%/)
  await expect(trace).toContainText('ricevuto da operatore telefonico demo')
  await expect(trace).not.toContainText('0551234567')
  await accessible(page, 'what was signalled')
})
