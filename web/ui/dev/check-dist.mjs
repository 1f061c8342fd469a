// Proves that the committed build is the sources' build: builds into a
// temporary folder and compares every byte. Also holds the bundle to its size.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build } from 'vite'

/** What the first load may cost on the wire: an operator's page opens at once on any line. */
const SCRIPT_MOST = 100 * 1024

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')
const fresh = mkdtempSync(join(tmpdir(), 'pronto-dist-'))

const files = (dir) =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile())
    .map((e) => relative(dir, join(e.parentPath, e.name)))
    .sort()

let faults = 0
const fault = (text) => {
  console.error(text)
  faults++
}

try {
  await build({ root, logLevel: 'error', build: { outDir: fresh, emptyOutDir: true } })
  const [are, ought] = [new Set(files(dist)), new Set(files(fresh))]
  for (const name of ought) {
    if (!are.has(name)) fault(`dist/${name} is missing`)
    else if (!readFileSync(join(dist, name)).equals(readFileSync(join(fresh, name)))) fault(`dist/${name} is not what the sources build`)
  }
  for (const name of are) if (!ought.has(name)) fault(`dist/${name} is not built by the sources`)
  const script = readFileSync(join(fresh, 'assets/console.js'))
  const wire = gzipSync(script, { level: 9 }).length
  if (wire > SCRIPT_MOST) fault(`assets/console.js is ${wire} bytes compressed, more than ${SCRIPT_MOST}`)
  if (faults === 0) console.log(`dist is the sources' build: ${ought.size} files, script ${script.length} bytes (${wire} compressed)`)
} finally {
  rmSync(fresh, { recursive: true, force: true })
}
if (faults > 0) {
  console.error('Run `npm run build` in web/ui and commit dist.')
  process.exit(1)
}
