// The register of doctors, on a real desk with its demo register: an operator
// edits while a colleague does, a supervisor merges and imports.

import { accessible, expect, signIn, test } from './desk'

test('two who edit the same person lose nothing, and an entry that is there twice becomes one', async ({ page, house, desk }) => {
  await signIn(page, house, 'anna')
  await page.goto('/#/gestione/anagrafica')
  await expect(page.getByRole('heading', { name: 'Anagrafica' })).toBeVisible()
  await expect(page.getByRole('link', { name: 'Importa da file' })).toHaveCount(0) // not an operator's
  await accessible(page, 'the register')

  // By a part of the name; who shares a number is named.
  await page.getByRole('searchbox', { name: 'Cerca in anagrafica' }).fill('bianchi')
  await page.getByRole('button', { name: 'Cerca', exact: true }).click()
  await page.getByRole('link', { name: 'Lucia Bianchi' }).click()
  await expect(page.getByRole('heading', { name: 'Lucia Bianchi' })).toBeVisible()
  const shared = page.getByRole('region', { name: 'Più persone su un numero' })
  await expect(shared).toContainText('+39 055 9876543')
  await expect(shared.getByRole('link', { name: 'Giovanna De Angelis' })).toBeVisible()

  // A colleague changes the practice while anna does; a wrong number is refused where it stands.
  const carla = await desk.colleague()
  await signIn(carla, house, 'carla')
  await carla.goto(page.url())
  await expect(carla.getByLabel('Ambulatorio')).toHaveValue('Studio associato Le Cure')
  await carla.getByLabel('Ambulatorio').fill('Studio Le Cure, piano terra')
  await carla.getByRole('button', { name: 'Salva' }).click()
  await expect(carla.getByRole('region', { name: 'Avviso' })).toContainText('salvato')

  await page.getByLabel('Ambulatorio').fill('Studio Le Cure, primo piano')
  await page.getByRole('button', { name: 'Aggiungi numero' }).click()
  await page.getByLabel('Numero 2', { exact: true }).fill('112')
  await page.getByRole('button', { name: 'Salva' }).click()
  await expect(page.getByText(/Numero di telefono non valido/)).toBeVisible()
  await page.getByLabel('Numero 2', { exact: true }).fill('055 111 2223')
  await page.getByRole('button', { name: 'Salva' }).click()
  await expect(page.getByText('Studio Le Cure, piano terra')).toBeVisible()
  await expect(page.getByLabel('Ambulatorio')).toHaveValue('Studio Le Cure, primo piano')
  await accessible(page, 'a conflict')

  // What was typed is still there after a look elsewhere.
  await page.goto('/#/ticket?f=all')
  await expect(page.getByRole('heading', { name: 'Ticket' })).toBeVisible()
  await page.goBack()
  await expect(page.getByLabel('Ambulatorio')).toHaveValue('Studio Le Cure, primo piano')
  await page.getByRole('button', { name: /Tieni/ }).click()
  await page.getByRole('button', { name: 'Salva' }).click()
  await expect(page.getByRole('region', { name: 'Avviso' })).toContainText('Lucia Bianchi: salvato.')
  await expect(page.getByLabel('Numero 1', { exact: true })).toHaveValue('+39 055 1112223')

  // The same person once more, added by mistake: an existing code is refused, then merged by the supervisor.
  await page.getByRole('link', { name: '‹ Torna all’anagrafica' }).click()
  await page.getByRole('link', { name: 'Aggiungi persona' }).click()
  await page.getByLabel('Nome').fill('Bianchi Lucia')
  await page.getByLabel('Codice').fill('1077')
  await page.getByLabel('E-mail').fill('l.bianchi@medici.example')
  await page.getByRole('button', { name: 'Salva' }).click()
  await expect(page.getByText('Il codice è già di un’altra persona.')).toBeVisible()
  await page.getByLabel('Codice').fill('9077')
  await page.getByRole('button', { name: 'Salva' }).click()
  await expect(page.getByRole('heading', { name: 'Bianchi Lucia' })).toBeVisible()
  await expect(page.getByRole('region', { name: 'Unisci a un’altra persona' })).toHaveCount(0)

  await carla.goto(page.url())
  const merge = carla.getByRole('region', { name: 'Unisci a un’altra persona' })
  await merge.getByRole('searchbox').fill('bianchi')
  await merge.getByRole('button', { name: 'Cerca' }).click()
  await merge.getByRole('button', { name: 'Scegli Lucia Bianchi, codice 1077' }).click()
  await merge.getByRole('radio', { name: 'Resta Lucia Bianchi, codice 1077' }).check()
  await expect(merge).toContainText('Resta Lucia Bianchi (1077); Bianchi Lucia (9077) sparisce dall’anagrafica.')
  await expect(merge).toContainText('Avrà questi numeri: +39 055 1112223, +39 055 9876543.')
  await expect(merge).toContainText('E-mail «l.bianchi@medici.example»')
  await accessible(carla, 'a merge')
  await merge.getByRole('button', { name: 'Unisci', exact: true }).click()
  await expect(carla.getByRole('heading', { name: 'Lucia Bianchi' })).toBeVisible()
  await page.reload()
  await expect(page.getByText('Questa persona non è (più) in anagrafica.')).toBeVisible()
})

test('an import lists everything that is wrong and does nothing, then does all', async ({ page, house }) => {
  const header = 'codice,nome,ambulatorio,azienda,email,numeri\n'
  await signIn(page, house, 'carla')
  await page.goto('/#/gestione/anagrafica')
  await page.getByRole('link', { name: 'Importa da file' }).click()
  const choose = page.getByLabel(/Scegli/)
  const file = (text: string | Buffer) => choose.setInputFiles({ name: 'medici.csv', mimeType: 'text/csv', buffer: Buffer.from(text) })

  await file(Buffer.from([0xff, 0xfe, 0x41, 0x00]))
  await expect(page.getByRole('alert')).toContainText('non è un CSV')
  await file('nome,ambulatorio\nBene,\n')
  await expect(page.getByRole('alert')).toContainText('Manca la colonna')

  await file(header + '7001,,,,,\n7002,Aldo Verdi,,,,055 7000002\n7002,Aldo Verdi,,,,\n7003,Male,,,,112\n')
  await expect(page.getByRole('alert')).toContainText('3 righe sbagliate: non è stato importato niente.')
  await expect(page.getByRole('row')).toHaveText([/Riga/, /^2 ?manca il nome/, /^4 ?codice già presente alla riga 3/, /^5 ?numero di telefono non valido/])
  await expect(page.getByRole('button', { name: /Importa/ })).toHaveCount(0)
  await accessible(page, 'bad lines')

  await file(header + '7002,Aldo Verdi,,,,055 7000002\n1042,Mario Rossi,Via nuova 1,Azienda USL Toscana Centro,mario.rossi@medici.example,+390551234567 +393331234567\n')
  await expect(page.getByText('Nuove persone')).toBeVisible()
  await expect(page.getByRole('row', { name: /1042/ })).toContainText('ambulatorio')
  await accessible(page, 'a preview')
  await page.getByRole('button', { name: 'Importa 2 persone' }).click()
  await expect(page.getByRole('region', { name: 'Avviso' })).toContainText('Importazione finita: 1 nuove, 1 modificate, 0 invariate.')
  await page.goto('/#/gestione/anagrafica/cerca/verdi')
  await expect(page.getByRole('row', { name: /Aldo Verdi/ })).toContainText('+39 055 7000002')
})
