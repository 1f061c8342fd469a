// Gestione › Argomenti on a real desk: whom a topic's callers may be offered.

import { accessible, expect, signIn, test } from './desk'

interface Routes { items: { code: string; route: { second: number; third: number; overflow: string; after: number } }[] }

test('a supervisor lets a topic relax, and is told of a refusal and of a colleague', async ({ page, desk, house }) => {
  const routes = async () => Object.fromEntries((await house.api<Routes>('/topics/routes')).items.map((t) => [t.code, t.route]))
  await signIn(page, house, 'carla')
  await page.goto('/#/gestione/argomenti')
  const card = page.getByRole('form', { name: 'Smart card e collegamenti' })
  await expect(card).toContainText(/livello 1: [2-9]/) // other stories bring operators of their own
  await card.getByLabel('Livello 2 dopo').fill('60')
  await card.getByLabel('Livello 3 dopo').fill('30')
  await card.getByRole('button', { name: 'Salva' }).click()
  await expect(card.getByRole('alert')).toContainText('Il livello 3 non può entrare prima del livello 2.')
  await expect(card.getByLabel('Livello 3 dopo')).toBeFocused()
  await accessible(page, 'a route that is refused')
  await card.getByLabel('Livello 3 dopo').fill('90')
  await card.getByLabel('Trabocco verso').selectOption('Cartella clinica')
  await card.getByLabel('Trabocco dopo').fill('120')

  const other = await desk.colleague()
  await signIn(other, house, 'carla')
  await other.goto('/#/gestione/argomenti')
  const theirs = other.getByRole('form', { name: 'Smart card e collegamenti' })
  await theirs.getByLabel('Livello 3 dopo').fill('45')
  await theirs.getByRole('button', { name: 'Salva' }).click()
  await expect(other.getByRole('region', { name: 'Avviso', exact: true })).toContainText('salvato')

  await expect(card.getByRole('alert')).toContainText('livello 3 dopo 45 s')
  await expect(card.getByLabel('Livello 3 dopo')).toHaveValue('90')
  await card.getByRole('button', { name: 'Salva' }).click()
  await expect(page.getByRole('region', { name: 'Avviso', exact: true })).toContainText('salvato')
  await expect(theirs.getByLabel('Livello 3 dopo')).toHaveValue('90')
  expect((await routes())['carta']).toEqual({ second: 60, third: 90, overflow: 'software', after: 120 })
})
