// Gestione › Servizi on a real desk: a supervisor changes hours, is told what is
// wrong and where, publishes, and the desk opens by them; two who write one
// draft; the emergency announcement.

import type { Page } from '@playwright/test'
import { accessible, expect, signIn, test } from './desk'

interface Overview { id: number; name: string; version: number; open: boolean; has_draft: boolean; numbers: string[] }
interface Versions { versions: { version: number; in_force: boolean; state: string; settings: { hours: { week: { weekday: number; opens: string; closes: string }[] } } }[] }

async function openService(page: Page, name: string) {
  await page.goto('/#/gestione/servizi')
  await page.getByRole('table', { name: 'Servizi' }).getByRole('link', { name, exact: true }).click()
  await expect(page.getByRole('heading', { level: 1 })).toHaveText(name)
}
const told = (page: Page, text: string) => expect(page.getByRole('region', { name: 'Avviso', exact: true })).toContainText(text)
const side = (page: Page) => page.getByRole('complementary', { name: 'Pubblica' })
const button = (page: Page, name: string) => side(page).getByRole('button', { name, exact: true })

test('a supervisor mends overlapping hours where the check says, and publishes them', async ({ page, house }) => {
  await signIn(page, house, 'carla')
  await page.getByRole('link', { name: 'Gestione' }).click()
  await page.getByRole('link', { name: 'Servizi', exact: true }).click()
  await expect(page.getByRole('heading', { name: 'Servizi', level: 1 })).toBeVisible()
  await accessible(page, 'the list of services')
  await openService(page, 'Assistenza medici')
  await expect(page.getByRole('region', { name: 'In vigore' })).toContainText('lun–ven 08:00–20:00')
  await accessible(page, 'a service')

  await page.getByRole('button', { name: 'Modifica', exact: true }).click()
  await page.getByRole('button', { name: 'Aggiungi fascia: Sabato' }).click()
  await page.getByLabel('Sabato, fascia 1: apre').fill('8')
  await page.getByLabel('Sabato, fascia 1: chiude').fill('1400')
  await page.getByRole('button', { name: 'Aggiungi fascia: Sabato' }).click()
  await page.getByLabel('Sabato, fascia 2: apre').fill('13.30')
  await page.getByLabel('Sabato, fascia 2: chiude').fill('18:00')
  await expect(page.getByLabel('Sabato, fascia 1: chiude')).toHaveValue('14:00')
  await button(page, 'Controlla').click()
  await expect(side(page)).toContainText('1 errore da correggere')
  const fault = side(page).getByRole('button', { name: 'Le fasce 08:00–14:00 e 13:30–18:00 si sovrappongono.' })
  await expect(fault).toContainText('Orario settimanale, sabato')
  await accessible(page, 'a draft with a fault')

  // What is wrong cannot be published, and leads to its field.
  await button(page, 'Pubblica').click()
  await expect(fault).toBeVisible()
  await fault.click()
  const opens = page.getByLabel('Sabato, fascia 2: apre')
  await expect(opens).toBeFocused()
  await expect(opens).toHaveAttribute('aria-invalid', 'true')
  await opens.fill('14:30')
  await expect(side(page)).toContainText('La bozza è cambiata dopo il controllo')

  // A reload loses nothing that was typed.
  await page.reload()
  await told(page, 'Ho ripreso le modifiche che non avevi salvato.')
  await expect(opens).toHaveValue('14:30')
  await button(page, 'Controlla').click()
  await expect(side(page)).toContainText('Nessun errore')
  await button(page, 'Pubblica').click()
  await told(page, 'Versione 2 pubblicata: in vigore da adesso')
  await expect(page.getByRole('region', { name: 'In vigore' })).toContainText('sab 08:00–14:00, 14:30–18:00')
  await expect(page.getByRole('region', { name: 'Versioni' })).toContainText('Carla Supervisore')

  const all = (await house.api<{ items: Overview[] }>('/services')).items
  const mine = all.find((s) => s.name === 'Assistenza medici')!
  expect([mine.version, mine.has_draft]).toEqual([2, false])
  const force = (await house.api<Versions>(`/services/${mine.id}`)).versions.find((v) => v.in_force)!
  expect(force.settings.hours.week.filter((x) => x.weekday === 6)).toEqual([{ weekday: 6, opens: '08:00', closes: '14:00' }, { weekday: 6, opens: '14:30', closes: '18:00' }])
})

test('hours that are published hold for the next call: the closed service opens', async ({ page, desk, house }) => {
  await signIn(page, house, 'carla')
  await page.goto('/#/gestione/servizi')
  const row = page.getByRole('row', { name: /sempre chiusa/ })
  await expect(row).toContainText('Chiuso')
  await openService(page, 'Assistenza medici, sempre chiusa')
  await page.getByRole('button', { name: 'Modifica', exact: true }).click()
  await page.getByRole('radio', { name: /Sempre aperto/ }).check()
  await page.getByRole('button', { name: 'Aggiungi giorni' }).click()
  await page.getByLabel('Dal', { exact: true }).fill('2031-06-14')
  await expect(page.getByLabel('Al (compreso)')).toHaveValue('2031-06-14')
  await page.getByLabel('Al (compreso)').fill('2031-06-13')
  await button(page, 'Controlla').click()
  await side(page).getByRole('button', { name: "L'ultimo giorno viene prima del primo." }).click()
  await expect(page.getByLabel('Al (compreso)')).toBeFocused()
  await page.getByLabel('Al (compreso)').fill('2031-06-15')
  await page.getByLabel('Il servizio è').selectOption('Aperto 24 ore')
  await page.getByLabel('Perché').fill('Elezioni')
  await button(page, 'Pubblica').click()
  await told(page, 'Versione 2 pubblicata: in vigore da adesso')
  await expect(page.getByRole('region', { name: 'In vigore' })).toContainText('14/06/2031–15/06/2031: 24 ore (Elezioni)')
  await page.getByRole('link', { name: 'Tutti i servizi' }).click()
  await expect(row).toContainText('Aperto')

  // Out of hours a caller hears of them and leaves a message; now the menu asks what it is about.
  const doctor = desk.call('--to', '800000002', '--press', '22')
  await expect.poll(() => doctor.callID).not.toBe('')
  const steps = async () => (await house.contact(doctor.callID).catch(() => null))?.journal.map((l) => l.kind) ?? []
  await expect.poll(steps, { timeout: 40_000 }).toContain('waiting')
  await doctor.hangUp()
})

test('a number of another service is refused with its reason, and a draft holds from a date', async ({ page, house }) => {
  await signIn(page, house, 'carla')
  await page.goto('/#/gestione/servizi/nuovo')
  await page.getByLabel('Nome', { exact: true }).fill('Assistenza serale')
  await page.getByLabel('Primo numero').fill('800 000 001')
  await page.getByLabel('Copia orari').selectOption('Assistenza medici')
  await page.getByRole('button', { name: 'Crea la bozza' }).click()
  await expect(page.getByRole('alert')).toContainText('Il numero 800000001 appartiene già a un servizio.')
  await expect(page.getByLabel('Primo numero')).toBeFocused()
  await accessible(page, 'a new service that is refused')
  await page.getByLabel('Primo numero').fill('848 000 111')
  await page.getByRole('button', { name: 'Crea la bozza' }).click()
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Assistenza serale')

  await page.getByRole('button', { name: 'Aggiungi numero' }).click()
  await page.getByRole('textbox', { name: 'Numero 2' }).fill('800 000 001')
  await page.getByRole('button', { name: 'Togli il tasto 1 dal menu' }).click()
  await button(page, 'Controlla').click()
  await expect(side(page)).toContainText('Manca il tasto predefinito, per chi non sceglie.')
  await side(page).getByRole('button', { name: 'Il numero 800000001 appartiene al servizio «Assistenza medici, sempre attiva».' }).click()
  await expect(page.getByRole('textbox', { name: 'Numero 2' })).toBeFocused()
  await page.getByRole('button', { name: 'Togli il numero 800000001' }).click()
  await page.getByRole('radio', { name: 'Tasto 2: è la voce predefinita' }).check()

  // Who is on duty at night: nobody whom the desk must not ring.
  const duty = page.getByRole('region', { name: 'Reperibilità fuori orario' })
  await duty.getByRole('button', { name: 'Aggiungi reperibile' }).click()
  await duty.getByLabel('Reperibile 1').fill('112')
  await duty.getByLabel('Reperibilità: dalle').fill('20')
  await button(page, 'Controlla').click()
  await side(page).getByRole('button', { name: /Il banco non può chiamare 112/ }).click()
  await expect(duty.getByLabel('Reperibile 1')).toBeFocused()
  await expect(side(page)).toContainText("L'ora di fine si scrive HH:MM, fino a 24:00.")
  await duty.getByLabel('Reperibile 1').fill('055 7654321')
  await duty.getByLabel('Reperibilità: alle').fill('8')
  await button(page, 'Controlla').click()
  await expect(side(page)).toContainText('Nessun errore')
  await side(page).getByRole('radio', { name: 'Da una data' }).check()
  await button(page, 'Pubblica').click()
  await expect(side(page)).toContainText('Indica giorno e ora da cui vale.')
  await side(page).getByLabel('Giorno e ora (di Roma)').fill('2031-03-02T08:00')
  await button(page, 'Pubblica').click()
  await told(page, 'Versione 1 pubblicata: varrà da 2 mar 2031 08:00')
  await page.getByRole('button', { name: 'Guarda la versione 1' }).click()
  await expect(page.getByText('20:00–08:00')).toBeVisible()
  const made = (await house.api<{ items: (Overview & { next_from: string })[] }>('/services')).items.find((s) => s.name === 'Assistenza serale')!
  expect([made.version, made.next_from]).toEqual([0, '2031-03-02T07:00:00Z'])
})

test('two supervisors write one draft: the slower one is told, and loses nothing', async ({ page, desk, house }) => {
  await signIn(page, house, 'carla')
  const all = (await house.api<{ items: Overview[] }>('/services')).items
  const id = all.find((s) => s.name === 'Assistenza medici, sempre attiva')!.id
  await page.goto(`/#/gestione/servizi/${id}`)
  await page.getByRole('button', { name: 'Modifica', exact: true }).click()
  const name = page.getByLabel('Nome', { exact: true })
  await name.fill('Assistenza medici, giorno e notte')
  await button(page, 'Salva bozza').click()
  await told(page, 'Bozza salvata')

  const other = await desk.colleague() // another window will do: the server tells revisions apart, not people
  await signIn(other, house, 'carla')
  await other.goto(`/#/gestione/servizi/${id}`)
  await other.getByLabel('Attesa massima').fill('600')
  await button(other, 'Salva bozza').click()
  await told(other, 'Bozza salvata')

  await name.fill('Assistenza medici H24')
  await button(page, 'Salva bozza').click()
  const raced = page.getByRole('region', { name: 'La bozza è stata cambiata anche da altri' })
  await expect(raced).toContainText('Carla Supervisore')
  await expect(raced.getByRole('row', { name: /Nome/ })).toContainText('Assistenza medici H24')
  await expect(raced.getByRole('row', { name: /Attesa massima/ })).toContainText('10 min')
  await expect(name).toHaveValue('Assistenza medici H24')
  await accessible(page, 'a lost race')
  await raced.getByRole('button', { name: 'Salva la mia al suo posto' }).click()
  await expect(raced).toBeHidden()
  await told(page, 'Bozza salvata')

  // The other one goes on with what stood there, and is told in turn.
  await other.getByLabel('Attesa massima').fill('300')
  await button(other, 'Controlla').click()
  const theirs = other.getByRole('region', { name: 'La bozza è stata cambiata anche da altri' })
  await theirs.getByRole('button', { name: 'Usa la sua' }).click()
  await expect(other.getByLabel('Nome', { exact: true })).toHaveValue('Assistenza medici H24')
  await button(other, 'Scarta bozza').click()
  await other.getByRole('button', { name: 'Sì, scarta' }).click()
  await told(other, 'Bozza scartata')
  await expect(page.getByRole('region', { name: 'In vigore' })).toBeVisible() // nothing was unsaved there: it follows
})

test('the emergency announcement is seen by everybody while it is on', async ({ page, desk, house }) => {
  await signIn(page, house, 'carla')
  const anna = await desk.colleague()
  await signIn(anna, house, 'anna')
  await expect(anna.getByRole('link', { name: 'Servizi', exact: true })).toHaveCount(0)
  await page.goto('/#/gestione/servizi')
  const card = page.getByRole('region', { name: 'Annuncio di emergenza' }).last()
  await card.getByRole('button', { name: 'Accendi l’annuncio' }).click()
  await card.getByRole('button', { name: 'Annulla' }).click()
  await expect(card).toContainText('Spento')
  await card.getByLabel('Si spegne da solo').fill('2020-01-01T10:00')
  await card.getByRole('button', { name: 'Accendi l’annuncio' }).click()
  await card.getByRole('button', { name: 'Sì, accendi' }).click()
  await expect(card.getByRole('alert')).toContainText('nel futuro')
  await card.getByLabel('Si spegne da solo').fill('')
  await card.getByRole('button', { name: 'Accendi l’annuncio' }).click()
  await card.getByRole('button', { name: 'Sì, accendi' }).click()
  await expect(card).toContainText('Acceso')
  const banner = /Annuncio di emergenza acceso \(da oggi/
  await expect(page.getByText(banner)).toBeVisible()
  await expect(anna.getByText(banner)).toBeVisible()
  await accessible(page, 'the announcement is on')
  await anna.goto('/#/ticket')
  await expect(anna.getByText(banner)).toBeVisible()
  await card.getByRole('button', { name: 'Spegni l’annuncio' }).click()
  await expect(anna.getByText(banner)).toBeHidden()
  await expect(card).toContainText('Spento')
})
