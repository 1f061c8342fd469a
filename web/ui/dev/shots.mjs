// Takes the console's picture in every state, to be looked at:
//   node dev/shots.mjs [folder] [only]     (Chromium from CHROMIUM or /usr/bin/chromium)

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { chromium } from '@playwright/test'
import { mock } from './mock.mjs'

const out = process.argv[2] ?? join(tmpdir(), 'pronto-shots')
const only = process.argv[3] ?? ''
mkdirSync(out, { recursive: true })

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
})
const sizes = { small: { width: 1366, height: 768 }, large: { width: 1920, height: 1080 } }
const said = []

/** One story: a fresh desk, a fresh page, and pictures on the way. */
async function story(name, tell, { as = 'anna', size = 'small', hash = '' } = {}) {
  if (only && !name.includes(only)) return
  const desk = await mock(0, { as })
  const context = await browser.newContext({ viewport: sizes[size] ?? size, locale: 'it-IT', timezoneId: 'Europe/Rome' })
  const page = await context.newPage()
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) said.push(`${name}: ${m.text()}`) })
  page.on('pageerror', (e) => said.push(`${name}: ${e}`))
  const label = typeof size === 'string' ? size : `${size.width}`
  const shot = async (part = '', full = false) => {
    await page.waitForTimeout(350)
    await page.screenshot({ path: join(out, `${name}${part ? `-${part}` : ''}-${label}.png`), fullPage: full })
  }
  try {
    await page.goto(`${desk.url}/${hash}`)
    await page.waitForSelector('main h1')
    await tell({ page, desk, scenes: desk.scenes, shot })
  } catch (e) {
    said.push(`${name}: ${e}`)
    await shot('failed')
  }
  await context.close()
  desk.stop()
}

for (const size of ['small', 'large']) {
  await story('call', async ({ page, scenes, shot, desk }) => {
    await shot('1-idle')
    scenes.ring({ urgency: 1, topic: 2, told: false })
    await page.waitForSelector('.phone-ringing')
    await shot('2-ringing')
    await page.waitForTimeout(300)
    if (desk.painted.length !== 1) said.push(`call: painted ${desk.painted.length} times`)
    scenes.answer()
    await page.waitForSelector('.phone-talking')
    await shot('3-talking')
    await page.keyboard.type('Il certificato non parte')
    await page.getByLabel('Descrizione').fill('Errore 502 su tutti e due i PC dello studio dalle 8:30. Provato un riavvio.')
    await shot('4-typing')
    await page.waitForSelector('.saving-saved')
    await shot('5-saved')
    scenes.hangup()
    await page.waitForSelector('.phone-wrapping')
    await shot('6-wrapping')
    await page.getByRole('radio', { name: 'Risolto' }).check()
    await page.getByLabel('Soluzione').fill('Rinnovato il certificato del canale INPS.')
    await shot('7-outcome', true)
    await page.keyboard.press('Control+Enter')
    await page.waitForSelector('.notice')
    await shot('8-closed')
  }, { size })
}
await story('several', async ({ page, scenes, shot }) => {
  scenes.ring({ kind: 'several', open: false })
  await page.waitForSelector('.phone-ringing')
  await shot('ringing')
  await page.getByRole('button', { name: 'È questa persona: Giovanni Verdi' }).click()
  await shot('chosen')
})
await story('unknown', async ({ page, scenes, shot }) => { scenes.ring({ kind: 'unknown' }); await page.waitForSelector('.phone-ringing'); await shot() })
await story('withheld', async ({ page, scenes, shot }) => { scenes.ring({ kind: 'withheld', told: false }); await page.waitForSelector('.phone-ringing'); await shot() })
await story('long', async ({ page, scenes, shot }) => { scenes.ring({ kind: 'long', urgency: 1 }); await page.waitForSelector('.phone-ringing'); await shot('', true) })
await story('missed', async ({ page, scenes, shot }) => {
  scenes.ring({ seconds: 1 })
  await page.waitForSelector('.centre > .banner')
  await shot()
})
await story('unreachable', async ({ page, scenes, shot }) => { scenes.state({ can_ring: false, declared: 'break', reason: 'phone_unreachable' }); await page.waitForSelector('.banner'); await shot() })
await story('off', async ({ page, scenes, shot }) => {
  scenes.state({ declared: 'off', can_ring: false })
  scenes.quiet()
  await shot()
  await page.getByRole('button', { name: 'Diventa disponibile' }).click()
  await shot('refused')
})
await story('menu', async ({ page, shot }) => { await page.locator('.state').click(); await page.keyboard.press('ArrowDown'); await shot() })
await story('menu-in-call', async ({ page, scenes, shot }) => {
  scenes.ring({}); scenes.answer()
  await page.waitForSelector('.phone-talking')
  await page.locator('.state').click()
  await shot()
  await page.getByRole('menuitemradio', { name: 'In pausa: Pranzo' }).click()
  await shot('chosen')
})
await story('conflict', async ({ page, scenes, shot }) => {
  scenes.ring({}); scenes.answer()
  await page.waitForSelector('.phone-talking')
  await page.getByLabel('Oggetto').fill('Il certificato non parte da stamattina')
  scenes.meddle()
  await page.waitForSelector('.conflict')
  await shot('', true)
  await page.getByRole('button', { name: 'Tieni il mio testo' }).click()
  await page.waitForSelector('.saving-saved')
  await shot('kept')
})
await story('away', async ({ page, scenes, shot }) => {
  scenes.ring({}); scenes.answer()
  await page.waitForSelector('.phone-talking')
  scenes.faults({ patch: 'away' })
  await page.getByLabel('Oggetto').fill('Testo che non si perde')
  await page.waitForSelector('.saving-away')
  await shot()
  await page.reload()
  await page.waitForSelector('.phone-talking')
  if ((await page.getByLabel('Oggetto').inputValue()) !== 'Testo che non si perde') said.push('away: the text did not survive the reload')
  scenes.faults({ patch: '' })
  await page.waitForSelector('.saving-saved')
  await shot('recovered')
})
await story('refused', async ({ page, scenes, shot }) => {
  scenes.ring({}); scenes.answer()
  await page.waitForSelector('.phone-talking')
  scenes.faults({ patch: 'refuse' })
  await page.getByLabel('Telefono', { exact: true }).fill('abc')
  await page.waitForSelector('.saving-refused')
  await shot()
})
await story('after', async ({ page, scenes, shot }) => {
  scenes.ring({}); scenes.answer()
  await page.waitForSelector('.phone-talking')
  await page.getByLabel('Oggetto').fill('Scheda rimasta aperta')
  scenes.hangup({ seconds: 1 })
  await page.waitForSelector('.over')
  await shot('over')
  scenes.ring({ kind: 'unknown' })
  await page.waitForSelector('.phone-ringing')
  await shot('second')
  scenes.answer()
  await page.waitForSelector('.phone-talking')
  await shot('second-talking')
})
await story('strip', async ({ page, scenes, shot }) => {
  scenes.ring({ kind: 'long', urgency: 1 })
  await page.waitForSelector('.strip-ringing')
  await shot()
  scenes.answer()
  await page.waitForSelector('.phone-talking')
  await shot('answered')
}, { hash: '#/ticket?f=all' })
await story('offline', async ({ page, scenes, shot }) => {
  scenes.drop()
  await page.waitForSelector('.light-reconnecting')
  await shot('reconnecting')
  await page.waitForSelector('.light-offline', { timeout: 25_000 })
  await shot()
  scenes.back()
  await page.waitForSelector('.light-connected', { timeout: 15_000 })
  await shot('back')
})
await story('stale', async ({ page, scenes, shot }) => { scenes.stale(); await page.waitForSelector('.banner-warn'); await shot() })
await story('signedout', async ({ page, scenes, shot }) => { scenes.signout(); await page.waitForSelector('.banner-bad'); await shot() })
for (const size of ['small', 'large']) {
  await story('tickets', async ({ shot, page }) => {
    await page.waitForSelector('tbody tr')
    await shot('mine')
    await page.getByRole('link', { name: 'Tutti', exact: true }).click()
    await page.waitForSelector('tbody tr')
    await shot('all')
  }, { hash: '#/ticket?f=mine', size })
  await story('ticket', async ({ shot, page }) => { await page.waitForSelector('.timeline'); await shot('', true) }, { hash: '#/ticket/2026-118', size })
}
await story('ticket-closed', async ({ shot, page }) => { await page.waitForSelector('.timeline'); await shot('', true) }, { hash: '#/ticket/2026-92' })
await story('ticket-none', async ({ shot, page }) => { await page.waitForSelector('.big-empty'); await shot() }, { hash: '#/ticket/2026-9999' })
await story('search', async ({ shot, page }) => {
  await page.locator('#ticket-search').fill('bianchi')
  await page.keyboard.press('Enter')
  await page.waitForSelector('tbody tr')
  await shot()
  await page.locator('#ticket-search').fill('qualcosa che non c’è')
  await page.keyboard.press('Enter')
  await page.waitForSelector('.big-empty')
  await shot('nothing')
}, { hash: '#/ticket?f=all' })
await story('list-failed', async ({ shot, page, scenes }) => {
  scenes.faults({ list: true })
  await page.goto(`${page.url().split('#')[0]}#/ticket?f=open`)
  await page.waitForSelector('.problem')
  await shot()
})
await story('messages', async ({ shot, page }) => {
  await page.waitForSelector('tbody tr')
  await shot()
  await page.getByRole('link', { name: 'Tutti', exact: true }).click()
  await page.waitForSelector('tbody tr:nth-child(4)')
  await shot('all')
}, { hash: '#/segreteria' })
await story('ringbacks', async ({ shot, page }) => { await page.waitForSelector('tbody tr'); await shot() }, { hash: '#/richiamare' })
await story('empty', async ({ shot, page, scenes }) => {
  scenes.empty()
  await page.reload()
  await page.waitForSelector('.mine')
  await shot('station')
  for (const [name, hash] of [['tickets', '#/ticket?f=all'], ['messages', '#/segreteria'], ['ringbacks', '#/richiamare']]) {
    await page.goto(`${page.url().split('#')[0]}${hash}`)
    await page.waitForSelector('.big-empty')
    await shot(name)
  }
})
for (const size of ['small', { width: 900, height: 768 }]) {
  await story('room', async ({ shot, page, scenes }) => {
    await page.waitForSelector('.alarms.some')
    await page.waitForTimeout(300)
    await shot('', true)
    await page.getByRole('button', { name: 'Forza stato di Bruno Galli' }).click()
    await shot('force')
    await page.getByRole('button', { name: 'Conferma' }).click()
    await page.waitForSelector('.notice')
    await shot('forced', true)
    scenes.empty()
    await shot('empty', true)
  }, { as: 'carla', hash: '#/sala', size })
  await story('callbacks', async ({ shot, page }) => {
    await page.waitForSelector('.figures-tables')
    await shot('', true)
    await page.getByLabel('Periodo').selectOption('other')
    await page.getByLabel('Dal').fill('2030-01-01')
    await page.waitForSelector('.figures .problem')
    await shot('period', true)
  }, { as: 'carla', hash: '#/richiamare', size })
}
await story('forced', async ({ shot, scenes }) => { scenes.state({ declared: 'break', reason: 'Riunione', forced_by: 'Carla Neri' }); await shot() })
await story('english', async ({ page, scenes, shot }) => {
  await page.getByRole('button', { name: 'Switch to English' }).click()
  scenes.ring({ urgency: 1 })
  await page.waitForSelector('.phone-ringing')
  await shot()
})
for (const [name, hash] of [['messages', '#/segreteria'], ['ringbacks', '#/richiamare']]) {
  for (const width of [700, 900, 980, 1240]) await story(`narrow-${name}`, async ({ shot, page }) => {
    await page.waitForSelector('tbody tr')
    const wide = await page.evaluate(() => Math.max(...[...document.querySelectorAll('.actions .btn')].map((b) => b.getBoundingClientRect().right)) - innerWidth)
    if (wide > 0) said.push(`narrow-${name}: at ${width} px a button stands ${wide} px outside`)
    await shot()
  }, { hash, size: { width, height: 768 } })
}
await story('focus', async ({ page, scenes, shot }) => {
  scenes.ring({}); scenes.answer()
  await page.waitForSelector('.phone-talking')
  await page.waitForTimeout(300)
  await shot()
})
await story('unknown-page', async ({ shot }) => { await shot() }, { hash: '#/nulla' })
await story('zoom', async ({ page, scenes, shot }) => { scenes.ring({ urgency: 1 }); await page.waitForSelector('.phone-ringing'); await shot('', true) }, { size: { width: 683, height: 384 } })

await browser.close()
console.log(out)
for (const line of said) console.log(line)
