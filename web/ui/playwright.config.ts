import { defineConfig } from '@playwright/test'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The machine's own Chromium: nothing is downloaded. */
const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium'

const args = [
  // Test machines are containers: Chromium's sandbox refuses root, and /dev/shm is small.
  ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  '--disable-dev-shm-usage', '--disable-gpu',
  // No microphone is asked for; who has none must not be asked either.
  '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
  // Nothing of this browser leaves the machine.
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--no-first-run',
]

export default defineConfig({
  testDir: 'e2e',
  outputDir: join(tmpdir(), `pronto-e2e-${process.getuid?.() ?? 'any'}`),
  workers: 1, // one desk, one telephone 1001
  retries: 0,
  forbidOnly: Boolean(process.env['CI']),
  timeout: 90_000, // a story of one call takes a quarter of it, also on two busy cores
  expect: { timeout: 20_000 }, // the greeting and the request's number are spoken meanwhile
  reporter: [['list']],
  use: {
    browserName: 'chromium',
    launchOptions: { executablePath, args },
    viewport: { width: 1366, height: 768 },
    locale: 'it-IT',
    timezoneId: 'Europe/Rome',
    actionTimeout: 10_000,
    screenshot: 'only-on-failure',
  },
  projects: [
    { name: 'desk', testMatch: '*.spec.ts' },
    { name: 'readme', testMatch: '*.shot.ts' }, // takes docs/console.png
  ],
})
