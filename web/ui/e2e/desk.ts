// What the stories have in common: a desk, telephones that end with the story,
// and the moves of an operator at the page.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { expect, test as base, type Locator, type Page } from '@playwright/test'
import { House, type Telephone } from './house'

interface Desk {
  /** An operator's telephone, registered. */
  telephone: (extension: string, answerAfter: string) => Promise<Telephone>
  /** Somebody rings. */
  call: (...args: string[]) => Telephone
  /** A second browser, of somebody else. */
  colleague: () => Promise<Page>
}

export const test = base.extend<{ desk: Desk }, { house: House }>({
  house: [
    async ({}, use) => {
      const house = await House.start()
      await use(house)
      await house.end()
    },
    { scope: 'worker', timeout: 90_000 },
  ],
  baseURL: async ({ house }, use) => use(house.url),
  desk: async ({ house, browser, contextOptions, locale, timezoneId, viewport, baseURL }, use, info) => {
    const phones: Telephone[] = []
    const pages: Page[] = []
    await use({
      telephone: async (extension, answerAfter) => {
        const phone = house.telephone(extension, answerAfter)
        phones.push(phone)
        await noted(phone, 'registered')
        return phone
      },
      call: (...args) => {
        const phone = house.call(...args)
        phones.push(phone)
        return phone
      },
      colleague: async () => {
        const context = await browser.newContext({ ...contextOptions, locale, timezoneId, viewport, baseURL })
        const page = await context.newPage()
        pages.push(page)
        return page
      },
    })
    for (const page of pages) await page.context().close()
    for (const phone of phones.reverse()) await phone.hangUp() // callers before telephones
    // The next story finds everybody off duty and nobody at the telephone.
    await expect.poll(async () => (await house.api<{ items: { doing: string }[] }>('/operators')).items.every((o) => ['idle', 'wrapping'].includes(o.doing))).toBe(true)
    for (const name of ['anna', 'bruno']) await house.api(`/operators/${name}/state`, { declared: 'off' })
    if (info.status !== info.expectedStatus) console.log([house.log, ...phones.map((p) => p.diary)].join('\n'))
  },
})

/** Waits until the telephone has noted something. */
export async function noted(phone: Telephone, event: string): Promise<void> {
  await expect.poll(() => phone.noted(event), { message: `the telephone notes «${event}»` }).toBe(true)
}

export async function signIn(page: Page, house: House, name: string): Promise<void> {
  await page.goto('/')
  await expect(page.getByRole('heading', { name: 'Accedi' })).toBeVisible()
  await page.getByLabel('Nome utente').fill(name)
  await page.getByLabel('Password').fill(house.password(name))
  await page.getByRole('button', { name: 'Accedi' }).click()
  await expect(page.getByRole('status')).toContainText('Connesso')
}

/** Chooses a state in the top bar. */
export async function declare(page: Page, state: string): Promise<void> {
  await page.getByRole('button', { name: 'Cambia stato' }).click()
  await page.getByRole('menuitemradio', { name: state }).click()
  await expect(page.getByRole('button', { name: 'Cambia stato' })).toContainText(state)
}

/** The parts of the operator's page. */
export function station(page: Page): { phone: Locator; caller: Locator; card: Locator; number: Locator } {
  const card = page.getByRole('region', { name: 'Scheda' })
  return {
    phone: page.getByRole('region', { name: /^Telefono/ }),
    caller: page.getByRole('region', { name: 'Chi chiama', exact: true }),
    card,
    number: card.getByRole('link', { name: /^\d{4}-\d+$/ }).first(),
  }
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

interface Violation {
  id: string
  impact: string | null
  help: string
  nodes: { html: string }[]
}

/** No page may have a serious or critical fault of WCAG 2.2 A or AA that a machine can find. */
export async function accessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axe)
  await page.evaluate(() => window.scrollTo(0, 0)) // what stands half under the bar is no smaller for it
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: (on: Document, o: object) => Promise<{ violations: Violation[] }> } }
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
    return (await axe.run(document, { runOnly: tags, resultTypes: ['violations'] })).violations
  })
  const serious = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
  expect(serious.map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`), what).toEqual([])
}

export { expect }
