// A talk that is recorded: the operator pauses and goes on, a supervisor hears it.
// The desk of the stories keeps recordings encrypted: what is played here was.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Locator } from '@playwright/test'
import { accessible, declare, expect, noted, signIn, station, test } from './desk'
import { voice } from './house'

interface Versions { versions: { settings: Record<string, unknown> }[] }
interface Page { timeline: { talk_until: string | null; contact_id: string; talk_gaps?: { from_ms: number; for_ms: number; reason: string }[] }[] }

test('a talk is recorded, paused and goes on; a supervisor hears it from anywhere, and reads where nothing was kept and until when it is', async ({ page, house, desk }) => {
  house.run('service add', '800000003', '--name', 'Assistenza registrata', '--always', '--menu', '1=software=Cartella clinica')
  const id = (await house.api<{ items: { id: number; name: string }[] }>('/services')).items.find((s) => s.name === 'Assistenza registrata')!.id
  const settings = { ...(await house.api<Versions>(`/services/${id}`)).versions[0]!.settings, record_calls: true, recording_notice: true, recording_agreement: 'Accordo del 2 marzo 2026', recording_days: 30 }
  const draft = await house.api<{ revision: number }>(`/services/${id}/draft`, { settings, valid_from: null, revision: 0 })
  await house.api(`/services/${id}/publish`, { revision: draft.revision }, 'POST')

  const said = join(house.dir, 'voice.wav')
  writeFileSync(said, voice(120))
  const phone = await desk.telephone('1001', '1s')
  await signIn(page, house, 'anna')
  await declare(page, 'Disponibile')
  const caller = desk.call('--to', '800000003', '--press', '12', '--from', '+390577200300', '--say', said)
  await noted(phone, 'lifts the handset')
  const here = station(page)
  await expect(here.phone).toContainText('La conversazione è registrata.')
  await talks(here.phone, 2)
  await here.phone.getByRole('button', { name: 'Sospendi registrazione' }).click()
  await expect(here.phone).toContainText('Registrazione sospesa: quello che dite non resta.')
  await talks(here.phone, 2)
  await here.phone.getByRole('button', { name: 'Riprendi registrazione' }).click()
  await expect(here.phone).toContainText('La conversazione è registrata.')
  await talks(here.phone, 2)
  const number = (await here.number.textContent())!
  await caller.hangUp()
  await expect(here.phone).toContainText('Lavorazione post-chiamata')

  const carla = await desk.colleague()
  await signIn(carla, house, 'carla')
  await carla.goto(`/#/ticket/${number}`)
  const talk = carla.getByLabel(/^Ascolta la conversazione/)
  await expect(talk).toBeVisible()
  const line = carla.getByRole('listitem').filter({ has: talk })
  await expect(line).toContainText(/Registrazione conservata fino a: \d+ \p{L}+ \d{4}\. Poi si cancella da sola\./u)
  await expect(line).toContainText('Non registrato:')
  await expect(line).toContainText('sospesa dall’operatore')
  await accessible(carla, 'a recorded talk')

  // From the end of the gap on, and back: each jump is a range of the encrypted file.
  const { contact_id, talk_gaps } = (await house.api<Page>(`/tickets/${number}`)).timeline.find((l) => l.talk_until)!
  expect(talk_gaps!.map((g) => g.reason)).toEqual(['operator'])
  const { from_ms, for_ms } = talk_gaps![0]!
  const answer = carla.waitForResponse((r) => r.url().endsWith('/talk'))
  await line.getByRole('button', { name: /^Ascolta da / }).click()
  expect((await answer).status()).toBe(206)
  const at = () => talk.evaluate((a) => (a as HTMLAudioElement).currentTime)
  await expect.poll(at).toBeGreaterThan((from_ms + for_ms) / 1000)
  expect(await talk.evaluate((a) => (a as HTMLAudioElement).duration)).toBeGreaterThan((from_ms + for_ms) / 1000)
  await talk.evaluate((a) => { (a as HTMLAudioElement).currentTime = 0.5 })
  await expect.poll(at).toBeGreaterThan(0.6)
  expect(await at()).toBeLessThan(from_ms / 1000)
  if (process.env['SHOT']) await line.screenshot({ path: process.env['SHOT'] })

  // The caller is heard before and after the gap, and nothing within; on the disk nothing is.
  const wav = Buffer.from(await (await carla.request.get(`/api/v1/contacts/${contact_id}/talk`)).body())
  expect(loud(wav, 500, from_ms - 500)).toBeGreaterThan(0.5)
  expect(loud(wav, from_ms + 500, from_ms + for_ms - 500)).toBe(0)
  expect(loud(wav, from_ms + for_ms + 300, from_ms + for_ms + 1000)).toBeGreaterThan(0.5)
  const files = readdirSync(join(house.dir, 'recordings'), { recursive: true, withFileTypes: true }).filter((f) => f.isFile())
  expect(files.length).toBeGreaterThan(0)
  for (const f of files) expect(readFileSync(join(f.parentPath, f.name)).subarray(0, 21).toString(), f.name).toBe('age-encryption.org/v1')

  // Who listened is kept.
  await line.getByText('Chi ha ascoltato').click()
  await expect(line).toContainText('Carla Supervisore')
})

/** Waits until they have talked for so many seconds more, by the page's clock. */
async function talks(phone: Locator, seconds: number): Promise<void> {
  const clock = async () => ((await phone.locator('.big .time').textContent()) ?? '').split(':').reduce((sum, part) => 60 * sum + Number(part), 0)
  const since = await clock()
  await expect.poll(clock).toBeGreaterThanOrEqual(since + seconds)
}

/** How much of the caller's side is above the least of A-law's steps, between two instants in ms. */
function loud(wav: Buffer, from: number, to: number): number {
  const sound = wav.subarray(wav.indexOf('data') + 8)
  const side = Array.from({ length: Math.floor((to - from) * 8) }, (_, i) => sound[2 * (Math.floor(from * 8) + i)]! ^ 0x55)
  return side.filter((s) => (s & 0x7f) > 8).length / side.length
}
