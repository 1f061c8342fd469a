// The whole desk as its people live it: the shipped server with its own
// PostgreSQL, real telephones over SIP, the console in Chromium.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { accessible, declare, expect, noted, signIn, station, test } from './desk'
import { voice } from './house'

/** Two keys of the menu: certificates, not blocking. */
const CERTIFICATES = ['--press', '22']
const LONG_ENOUGH = '8s' // ringing, so that the page is read before the handset is lifted
const NEVER = '-1s'

test('a call, from the sign-in to the closed ticket', async ({ page, house, desk }) => {
  await page.goto('/')
  await accessible(page, 'sign-in')
  await signIn(page, house, 'anna')
  const phone = await desk.telephone('1001', LONG_ENOUGH)
  await declare(page, 'Disponibile')

  const doctor = desk.call(...CERTIFICATES)
  const here = station(page)
  await expect(here.phone).toContainText('Squillo')
  await expect(here.caller).toContainText('Mario Rossi')
  await expect(here.caller).toContainText('Riconoscimento certo')
  await expect(here.caller).toContainText('Ambulatorio di via dei Servi')
  await expect(here.number).toBeVisible()
  const number = await here.number.innerText()
  await expect(here.card.getByLabel('Richiedente')).toHaveValue('Mario Rossi')
  await expect(here.card.getByLabel('Argomento').locator('option:checked')).toHaveText('Certificati di malattia')
  await noted(phone, 'rings')
  expect(phone.noted('lifts the handset'), 'the pop stands before the handset is lifted').toBe(false)
  await expect(page).toHaveTitle(/Squillo: Mario Rossi/)

  await noted(phone, 'lifts the handset')
  await expect(here.phone).toContainText('In conversazione')
  await expect(here.phone.locator('.big')).toHaveText(/^\d+:(?!00)\d\d$/) // the timer runs
  await expect(here.number).toHaveText(number)
  await here.card.getByLabel('Oggetto').fill('Il certificato di malattia non parte')
  await here.card.getByLabel('Descrizione').fill('Errore 502 dall’INPS su tutti e due i PC dello studio.')
  await expect(here.card.getByText(/^Salvato alle \d\d:\d\d:\d\d$/)).toBeVisible()
  expect(await house.ticket(number)).toMatchObject({
    subject: 'Il certificato di malattia non parte',
    description: 'Errore 502 dall’INPS su tutti e due i PC dello studio.',
    owner: { name: 'anna' },
  })

  const wrapping = here.phone.filter({ hasText: 'Lavorazione post-chiamata' }).filter({ hasText: /0:0[1-3]\s*tempo rimasto/ })
  await Promise.all([wrapping.waitFor(), doctor.hangUp()]) // the demo's wrap-up lasts 3 s: watch before it begins
  await here.phone.getByRole('button', { name: '+1 minuto' }).click()
  await expect(here.phone.locator('.big')).toHaveText(/^(1:0|0:5)\d/)
  await noted(phone, 'the other side hung up')
  await here.card.getByRole('radio', { name: 'Risolto' }).check()
  await here.card.getByLabel('Soluzione').fill('Rinnovato il certificato del canale.')
  await here.card.getByRole('button', { name: 'Salva e chiudi' }).click()
  await expect(page.getByRole('region', { name: 'Avviso' })).toContainText(`Ticket ${number} chiuso`)

  const ticket = await house.ticket(number)
  expect(ticket).toMatchObject({ status: 'closed', outcome: 'risolto', solution: 'Rinnovato il certificato del canale.' })
  expect(JSON.stringify(ticket.closed_by)).toContain('anna')
  const contact = await house.contact(doctor.callID)
  expect(contact).toMatchObject({ ending: 'served', ticket: number, match: 'certain' })
  const kinds = contact.journal.map((j) => j.kind)
  expect(kinds.indexOf('painted'), `painted before talking: ${kinds}`).toBeGreaterThan(0)
  expect(kinds.indexOf('painted'), `painted before talking: ${kinds}`).toBeLessThan(kinds.indexOf('talking'))

  await page.goto(`/#/ticket/${number}`)
  await expect(page.getByRole('region', { name: 'Cronologia' })).toContainText('Chiuso: risolto')
  await accessible(page, 'ticket')
})

test('a declined call stops the telephone, and a supervisor sees it all', async ({ page, house, desk }) => {
  const phone = await desk.telephone('1001', NEVER)
  const carla = await desk.colleague()
  await Promise.all([signIn(page, house, 'anna'), signIn(carla, house, 'carla')])
  await expect(carla.getByRole('heading', { name: 'Operatori' })).toBeVisible()
  const anna = carla.getByRole('row', { name: /Anna/ })
  await expect(anna).toContainText('Fuori turno')
  await declare(page, 'Disponibile')
  await expect(anna).toContainText('Disponibile')

  const doctor = desk.call(...CERTIFICATES)
  const here = station(page)
  await expect(here.phone).toContainText('Squillo')
  await noted(phone, 'rings')
  await expect(anna).toContainText('Squillo')
  await accessible(page, 'station with a ringing call')
  await page.keyboard.press('Shift+F2')
  await expect(page.getByRole('region', { name: 'Avviso' })).toContainText('Chiamata rifiutata')
  await noted(phone, 'stopped ringing')
  expect(phone.noted('lifts the handset')).toBe(false)
  await expect(here.phone).not.toContainText('Squillo')

  await doctor.hangUp()
  await expect.poll(async () => (await house.contact(doctor.callID)).ending).toBe('abandoned_queue')
  await page.getByRole('navigation', { name: 'Pagine' }).getByRole('link', { name: /Da richiamare/ }).click()
  await expect(page.getByRole('row', { name: /Mario Rossi/ }).first()).toContainText('Abbandonata in coda')
})

test('a page that is loaded anew in a talk has the call and every typed word', async ({ page, house, desk }) => {
  const phone = await desk.telephone('1001', '0s')
  await signIn(page, house, 'anna')
  await declare(page, 'Disponibile')
  const doctor = desk.call(...CERTIFICATES)
  await noted(phone, 'lifts the handset')
  const here = station(page)
  await expect(here.phone).toContainText('In conversazione')
  const number = await here.number.innerText()
  await here.card.getByLabel('Oggetto').fill('Ricetta rifiutata')
  await here.card.getByLabel('Descrizione').fill('Scritto un attimo prima di ricaricare')
  await page.reload() // before the two seconds after which a form saves itself

  await expect(here.phone).toContainText('In conversazione')
  await expect(here.caller).toContainText('Mario Rossi')
  await expect(here.number).toHaveText(number)
  await expect(here.card.getByLabel('Oggetto')).toHaveValue('Ricetta rifiutata')
  await expect(here.card.getByLabel('Descrizione')).toHaveValue('Scritto un attimo prima di ricaricare')
  await expect.poll(async () => (await house.ticket(number)).description).toBe('Scritto un attimo prima di ricaricare')
  expect(phone.noted('the other side hung up'), 'the talk goes on').toBe(false)
  await doctor.hangUp()
  await expect(here.card.getByRole('button', { name: 'Salva e chiudi' })).toBeVisible()
})

test('a message of the night is listened to and taken charge of', async ({ page, house, desk }) => {
  const speech = join(house.dir, 'voce.wav')
  writeFileSync(speech, voice(60))
  const doctor = desk.call('--to', '800000002', '--say', speech)
  await signIn(page, house, 'anna')
  await page.getByRole('navigation', { name: 'Pagine' }).getByRole('link', { name: /Segreteria/ }).click()
  await expect(page.getByRole('heading', { name: 'Segreteria' })).toBeVisible()
  await expect(page.getByText('Nessun messaggio da ascoltare.')).toBeVisible()

  // Hours, the request's number and the invitation are spoken before the tone.
  await expect.poll(async () => (await house.contact(doctor.callID)).journal.some((j) => j.kind === 'recording'), { timeout: 40_000 }).toBe(true)
  const began = Date.now()
  await expect.poll(() => Date.now() - began, { message: 'the doctor speaks' }).toBeGreaterThan(3000)
  await doctor.hangUp()

  const row = page.getByRole('row', { name: /Mario Rossi/ }) // comes by itself
  await expect(row).toContainText('Da ascoltare')
  const number = await row.getByRole('link', { name: /^\d{4}-\d+$/ }).innerText()
  const audio = row.locator('audio')
  await audio.focus()
  await page.keyboard.press('Space')
  await expect.poll(() => audio.evaluate((a: HTMLAudioElement) => a.currentTime), { message: 'it plays' }).toBeGreaterThan(0)
  const seconds = await audio.evaluate((a: HTMLAudioElement) => a.duration)
  expect(seconds).toBeGreaterThan(2)
  expect(seconds).toBeLessThan(20)
  await row.getByRole('button', { name: /^Prendi in carico/ }).click()
  await expect(page.getByRole('region', { name: 'Avviso' })).toContainText('Messaggio preso in carico')
  await expect(row).toBeHidden() // nobody else need listen to it
  const { items } = await house.api<{ items: object[] }>('/messages?state=all')
  expect(items).toContainEqual(expect.objectContaining({ ticket: number, state: 'taken', taken_by: 'anna' }))
  await expect.poll(() => house.ticket(number), { message: 'its ticket goes along' }).toMatchObject({ status: 'in_charge', owner: { name: 'anna' } })
  expect((await house.contact(doctor.callID)).ending).toBe('voicemail')
})

test('the keyboard alone is enough', async ({ page, house, desk }) => {
  const { keyboard } = page
  const focused = () => page.evaluate(() => (document.activeElement as HTMLElement | null)?.innerText || document.activeElement?.getAttribute('value') || document.activeElement?.id || '')
  const tabTo = async (what: RegExp) => {
    for (let i = 0; i < 60; i++) {
      await keyboard.press('Tab')
      if (what.test(await focused())) return
    }
    throw new Error(`${what} cannot be reached with the tabulator`)
  }
  await page.goto('/')
  await expect(page.getByLabel('Nome utente')).toBeFocused()
  await keyboard.type('anna')
  await keyboard.press('Tab')
  await keyboard.type(house.password('anna'))
  await keyboard.press('Enter')
  await expect(page.getByRole('status')).toContainText('Connesso')
  const phone = await desk.telephone('1001', '0s')
  await tabTo(/Fuori turno/)
  await keyboard.press('Enter')
  await expect(page.getByRole('menuitemradio', { name: 'Fuori turno' })).toBeFocused()
  await keyboard.press('Home')
  await keyboard.press('Enter')
  await expect(page.getByRole('button', { name: 'Cambia stato' })).toContainText('Disponibile')

  const doctor = desk.call(...CERTIFICATES)
  await noted(phone, 'lifts the handset')
  const here = station(page)
  await expect(here.card.getByLabel('Oggetto')).toBeFocused()
  await keyboard.type('Solo tastiera')
  await tabTo(/-description$/)
  await keyboard.type('Nessun mouse è stato toccato.')
  const number = await here.number.innerText()
  await doctor.hangUp()
  await expect(here.card.getByRole('radio', { name: 'Risolto' })).toBeVisible()
  await tabTo(/^risolto$/)
  await keyboard.press('Space')
  await keyboard.press('Control+Enter')
  await expect(page.getByRole('region', { name: 'Avviso' })).toContainText(`Ticket ${number} chiuso`)
  expect(await house.ticket(number)).toMatchObject({ status: 'closed', subject: 'Solo tastiera', description: 'Nessun mouse è stato toccato.' })
})

test('no name is too long for a page', async ({ page, house, desk }) => {
  const register = join(house.dir, 'medici.csv')
  writeFileSync(register, `codice,nome,ambulatorio,azienda,email,numeri
2001,${'Maria Antonietta Giuseppina degli Alberghetti '.repeat(4)},"Associazione professionale di medicina generale «Centro polifunzionale della comunità montana del Casentino»",Azienda unità sanitaria locale Toscana Sud Est,maria@medici.example,+390575123456
2002,${'Donaudampfschifffahrtsgesellschaftskapitän'.repeat(4)},${'x'.repeat(150)},USL,d@medici.example,+390575999999
`)
  house.run('customers import', register)
  const phone = await desk.telephone('1001', NEVER)
  await signIn(page, house, 'anna')
  const waits = desk.call('--press', '31', '--from', '+390575999999')
  await expect(page.getByRole('region', { name: 'Chi aspetta' })).toContainText('Donau')
  await waits.hangUp()
  await declare(page, 'Disponibile')
  desk.call('--press', '11', '--from', '+390575123456')
  await noted(phone, 'rings')
  await expect(station(page).caller).toContainText('Alberghetti')
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  expect(await wide(), 'station').toBe(0)
  for (const [path, heading] of [['richiamare', 'Da richiamare'], ['ticket?f=all', 'Ticket']] as const) {
    await page.goto(`/#/${path}`)
    await expect(page.getByRole('heading', { name: heading, exact: true })).toBeVisible()
    await expect(page.getByRole('row', { name: /Donau/ }).first()).toBeVisible()
    expect(await wide(), heading).toBe(0)
  }
  await page.getByRole('row', { name: /Donau/ }).first().getByRole('link').click()
  await expect(page.getByRole('region', { name: 'Dati' })).toContainText('Donau')
  expect(await wide(), 'ticket').toBe(0)
})
