// The supervisors' live page: who waits, whom to send back to the telephone, and
// what came of the callbacks.

import { accessible, declare, expect, noted, signIn, station, test } from './desk'

const NEVER = '1h'
const wide = (page: import('@playwright/test').Page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)

test('a supervisor sees who waits, and puts an operator to work who reads who it was', async ({ page, house, desk }) => {
  const phone = await desk.telephone('1001', NEVER)
  await signIn(page, house, 'anna')
  await declare(page, 'Pranzo')
  const room = await desk.colleague()
  await signIn(room, house, 'carla')
  await room.getByRole('link', { name: 'Sala' }).click()
  await expect(room.getByRole('heading', { name: 'Sala', exact: true })).toBeVisible()
  const alarms = room.getByRole('region', { name: 'Allarmi' })
  await expect(alarms).toContainText('Nessun allarme')
  const waiting = room.getByRole('region', { name: 'Chi aspetta' })
  await expect(waiting).toContainText('Nessuno in attesa.')
  const queue = room.getByRole('region', { name: 'Code' }).getByRole('row', { name: /Cartella clinica/ })
  const received = await queue.getByRole('cell').nth(5).innerText()

  const doctor = desk.call('--press', '12', '--from', '+390551234567')
  const row = waiting.getByRole('row', { name: /Mario Rossi/ })
  await expect(row).toContainText('+39 055 1234567')
  await expect(row.getByRole('cell').first()).toHaveText('1')
  await expect(row).toContainText('Non bloccante')
  await expect(row).toContainText('In coda')
  await expect(alarms).toContainText('Nessun operatore disponibile, 1 persona in attesa')
  await expect(queue.getByRole('cell').first()).toHaveText('1')
  await expect(queue.getByRole('cell').nth(5), 'received today').toHaveText(String(Number(received) + 1))
  await accessible(room, 'room')
  for (const width of [1366, 900]) {
    await room.setViewportSize({ width, height: 768 })
    expect(await wide(room), `${width} px`).toBe(0)
  }

  const operators = room.getByRole('region', { name: 'Operatori' })
  const anna = operators.getByRole('row', { name: /Anna/ })
  await expect(anna).toContainText('In pausa: Pranzo')
  await anna.getByRole('button', { name: /Forza stato/ }).click()
  const dialog = room.getByRole('dialog', { name: /Forza stato di Anna/ })
  await expect(dialog).toContainText('Stato attuale: In pausa: Pranzo.')
  await accessible(room, 'force a state')
  await room.keyboard.press('Escape') // thought better of it
  await expect(dialog).toBeHidden()
  await expect(anna.getByRole('button', { name: /Forza stato/ })).toBeFocused()
  await expect(anna).toContainText('In pausa: Pranzo')

  await anna.getByRole('button', { name: /Forza stato/ }).click()
  await dialog.getByRole('radio', { name: 'Disponibile' }).check()
  await expect(dialog).toContainText('la prossima chiamata squilla a vuoto')
  await dialog.getByRole('button', { name: 'Conferma' }).click()
  await expect(dialog).toBeHidden()
  await expect(anna).toContainText('Disponibile')
  await expect(anna).toContainText('da Carla')

  await expect(page.getByText(/^Il supervisore Carla.* ha cambiato il tuo stato: Disponibile$/).first()).toBeVisible()
  await expect(station(page).phone).toContainText('Squillo')
  await expect(row).toContainText('Sta squillando')
  await accessible(page, 'forced, and ringing')

  // While it rings: sent away, the telephone stops, and the caller keeps the place.
  await anna.getByRole('button', { name: /Forza stato/ }).click()
  await expect(dialog).toContainText('la chiamata passa a un altro')
  await dialog.getByRole('radio', { name: 'In pausa' }).check()
  await dialog.getByLabel('Motivo della pausa').selectOption('Riunione')
  await dialog.getByRole('button', { name: 'Conferma' }).click()
  const banner = page.getByRole('region', { name: 'Forza stato' })
  await expect(banner).toContainText('ha cambiato il tuo stato: In pausa: Riunione')
  await expect(row).toContainText('In coda')
  await banner.getByRole('button', { name: 'Ho capito' }).click()
  await expect(banner).toBeHidden()

  await declare(page, 'Formazione') // her own word again
  await expect(anna).toContainText('In pausa: Formazione')
  await expect(anna).not.toContainText('da Carla')
  await doctor.hangUp()
  await expect(waiting).toContainText('Nessuno in attesa.')
  expect(phone.noted('lifts the handset')).toBe(false)
})

test('a telephone that cannot ring is an alarm, and its operator cannot be made available', async ({ page, house, desk }) => {
  await house.api('/operators/bruno/state', { declared: 'admin' })
  await signIn(page, house, 'carla')
  await page.goto('/#/sala')
  await expect(page.getByRole('region', { name: 'Allarmi' })).toContainText(/Bruno.*: .*1002/)
  const bruno = page.getByRole('region', { name: 'Operatori' }).getByRole('row', { name: /Bruno/ })
  await expect(bruno).toContainText('non raggiungibile')
  await bruno.getByRole('button', { name: /Forza stato/ }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('radio', { name: 'Disponibile' }).check()
  await dialog.getByRole('button', { name: 'Conferma' }).click()
  await expect(dialog.getByRole('alert')).toContainText('1002')
  await dialog.getByRole('button', { name: 'Annulla' }).click()
  const phone = await desk.telephone('1002', NEVER) // the telephone registers: the page hears of it by itself
  await expect(bruno).not.toContainText('non raggiungibile')
  await expect(page.getByRole('region', { name: 'Allarmi' })).not.toContainText('Bruno')

  // Who is available and cannot be rung is not free, also at the head of the page.
  await house.api('/operators/bruno/state', { declared: 'available' })
  await expect(page.getByRole('main')).toContainText('1 libero')
  await phone.hangUp()
  await expect(bruno).toContainText('non raggiungibile')
  await expect(page.getByRole('main')).toContainText('0 liberi')
})

test('the figures of callbacks, of a period that makes sense', async ({ page, house, desk }) => {
  const lost = desk.call('--press', '12', '--from', '+390577111222')
  await noted(lost, 'answered') // its Call-ID is known from then on
  await expect.poll(async () => (await house.contact(lost.callID).catch(() => null))?.journal.some((l) => l.kind === 'waiting') ?? false).toBe(true)
  await lost.hangUp()
  await signIn(page, house, 'carla')
  await page.getByRole('link', { name: /^Da richiamare/ }).click()
  const figures = page.getByRole('region', { name: 'Numeri delle richiamate' })
  await expect(figures).toContainText('Nessuna richiamata nel periodo.')
  await page.getByRole('button', { name: /Metti in coda.*111 ?222/ }).click()
  await expect(page.getByRole('region', { name: 'Richiamate prenotate' })).toContainText('+39 0577 111222')
  await expect(figures.getByRole('row', { name: /^Da richiamare/ })).toContainText('1')
  await expect(figures.getByRole('row', { name: /^Ancora da fare/ })).toContainText('1')
  await accessible(page, 'callbacks')
  await page.getByRole('button', { name: /Annulla la richiamata/ }).click()
  await expect(figures.getByRole('row', { name: /^Annullate/ })).toContainText('1')

  await figures.getByLabel('Periodo').selectOption('yesterday')
  await expect(figures).toContainText('Nessuna richiamata nel periodo.')
  await figures.getByLabel('Periodo').selectOption('other')
  await figures.getByLabel('Dal').fill('2030-01-01')
  await expect(figures.getByRole('alert')).toContainText('Il periodo finisce dopo il suo inizio')
  await accessible(page, 'a period that makes no sense')
})
