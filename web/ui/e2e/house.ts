// The shipped programs as processes: bin/pronto is the desk, bin/caller its
// telephones. Every test ends what it started; the desk lives as long as the
// worker.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..')
const pronto = join(root, 'bin/pronto')
const caller = join(root, 'bin/caller')

const READY_WITHIN = 60_000 // ms: initdb on a busy machine
const END_WITHIN = 20_000 // ms: calls are ended, PostgreSQL is shut down
const LOG_KEPT = 64 * 1024 // characters
/** Sound of the desk: below the ports that bin/caller takes (25000) and those of `make run` (20000). */
const RTP = '18000-18399'

/** What these desks record is encrypted to a key of the stories' own. */
const RECIPIENT = 'age1vdnkmztd70f0gp6g4rvw6qt40hnawqv9xk57y2mgausexvlzmutqagkwut'
const IDENTITY = 'AGE-SECRET-KEY-1UQ0MCF3PW9TQV5R9YWCASSX9CP08SYZCGSF5Y8PUDY3Q0SUXCKMSJKNTF5'

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const p of running) p.kill('SIGTERM')
})

/** A process with what it said. */
class Program {
  readonly process: ChildProcess
  readonly ended: Promise<number | null>
  log = ''

  constructor(readonly title: string, file: string, args: string[], line?: (text: string) => void) {
    if (!existsSync(file)) throw new Error(`${file} is missing: run make build`)
    this.process = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, DATABASE_URL: '' } })
    running.add(this.process)
    let rest = ''
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.keep(text)
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const l of lines) line?.(l)
    })
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => this.keep(text))
    this.ended = new Promise((done) => {
      this.process.on('error', (e) => {
        this.keep(String(e))
        running.delete(this.process)
        done(null)
      })
      this.process.on('close', (code) => {
        running.delete(this.process)
        done(code)
      })
    })
  }

  get alive(): boolean {
    return running.has(this.process)
  }

  private keep(text: string) {
    this.log = (this.log + text).slice(-LOG_KEPT)
  }

  /** Asks, waits, insists. */
  async end(): Promise<number | null> {
    this.process.kill('SIGTERM')
    const insist = setTimeout(() => this.process.kill('SIGKILL'), END_WITHIN)
    const code = await this.ended
    clearTimeout(insist)
    return code
  }
}

interface Said {
  event: string
  [detail: string]: unknown
}

/** A telephone of bin/caller, an operator's or a caller's. */
export class Telephone {
  readonly said: Said[] = []
  private readonly program: Program

  constructor(title: string, args: string[]) {
    this.program = new Program(title, caller, ['--json', ...args], (text) => {
      if (text.startsWith('{')) this.said.push(JSON.parse(text) as Said)
    })
  }

  /** Whether the telephone has noted this, such as `rings` or `lifts the handset`. */
  noted(event: string): boolean {
    return this.said.some((s) => s.event === event)
  }

  get callID(): string {
    return String(this.said.find((s) => s.call_id)?.call_id ?? '')
  }

  async hangUp(): Promise<void> {
    await this.program.end()
  }

  get diary(): string {
    return `--- ${this.program.title} noted:\n${this.program.log}`
  }
}

export interface Contact {
  id: string
  ending: string | null
  ticket: string | null
  match: string
  journal: { seq: number; at: string; kind: string }[]
}

export interface Ticket {
  number: string
  status: string
  subject: string
  description: string
  outcome: string
  solution: string
  closed_by: string | { name: string } | null
  owner: { name: string } | null
}

export class House {
  readonly url: string
  private passwords: { users: Record<string, string>; phones: Record<string, string> } = { users: {}, phones: {} }
  private token = ''

  private constructor(private readonly program: Program, readonly dir: string, private readonly sip: string, http: string) {
    this.url = `http://${http}`
  }

  /** Starts `pronto serve --demo` in a fresh directory and waits until it takes calls. */
  static async start(): Promise<House> {
    const dir = mkdtempSync(join(tmpdir(), 'pronto-e2e-'))
    chmodSync(dir, 0o755) // the private PostgreSQL may run as somebody else
    const [sip, http] = [await freeAddress(), await freeAddress()]
    writeFileSync(join(dir, 'recordings.key'), IDENTITY, { mode: 0o600 })
    writeFileSync(join(dir, 'pronto.toml'), `[recordings]\nrecipients = ["${RECIPIENT}"]\nidentities = "recordings.key"\n`)
    const program = new Program('pronto serve', pronto, ['serve', '--config', join(dir, 'pronto.toml'), '--data', dir, '--sip', sip, '--rtp', RTP, '--http', http, '--demo'])
    const house = new House(program, dir, sip, http)
    try {
      await house.ready()
      house.passwords = JSON.parse(readFileSync(join(dir, 'demo.json'), 'utf8')) as House['passwords']
      house.token = house.run('token', '--user', 'carla').trim().split(/\s+/).pop() ?? ''
    } catch (e) {
      const log = house.log
      await house.end()
      throw new Error(`${e instanceof Error ? e.message : String(e)}\n${log}`)
    }
    return house
  }

  private async ready(): Promise<void> {
    const until = Date.now() + READY_WITHIN
    for (;;) {
      const ready = await fetch(`${this.url}/readyz`).then((r) => r.status === 200, () => false)
      if (ready) return
      if (!this.program.alive) throw new Error('the server ended at its start')
      if (Date.now() > until) throw new Error(`the server was not ready within ${READY_WITHIN / 1000} s`)
      await new Promise((again) => setTimeout(again, 100))
    }
  }

  /** Another command of bin/pronto, on this desk's data. */
  run(command: string, ...args: string[]): string {
    return this.tell('', command, ...args)
  }

  private tell(input: string, command: string, ...args: string[]): string {
    const done = spawnSync(pronto, [...command.split(' '), '--data', this.dir, ...args], { input, encoding: 'utf8', timeout: READY_WITHIN })
    if (done.status !== 0) throw new Error(`pronto ${command}: ${done.stderr}`)
    return done.stdout
  }

  /** A supervisor with a telephone, whom the demo lacks. */
  addSupervisor(name: string, display: string, extension: string): void {
    this.passwords.users[name] = this.passwords.phones[extension] = `di-prova-${name}`
    this.tell(`${this.password(name)}\n`, 'user add', name, '--display', display, '--role', 'supervisor', '--extension', extension)
    this.tell(`${this.password(name)}\n`, 'phone', extension)
  }

  async end(): Promise<void> {
    const code = await this.program.end()
    rmSync(this.dir, { recursive: true, force: true })
    if (code !== 0) throw new Error(`the server ended with ${code}, not 0:\n${this.log}`)
  }

  get log(): string {
    return `--- pronto serve said:\n${this.program.log}`
  }

  password(user: string): string {
    const found = this.passwords.users[user]
    if (!found) throw new Error(`demo.json has no password for ${user}`)
    return found
  }

  /** An operator's telephone, which lifts the handset after `answerAfter` and waits for the other side to hang up. */
  telephone(extension: string, answerAfter: string): Telephone {
    const password = this.passwords.phones[extension]
    if (!password) throw new Error(`demo.json has no password for telephone ${extension}`)
    return new Telephone(`telephone ${extension}`, [
      '--server', this.sip, '--register', extension, '--password', password, `--answer-after=${answerAfter}`, '--talk', '0',
    ])
  }

  /** A call from outside; it lasts until the caller hangs up. */
  call(...args: string[]): Telephone {
    return new Telephone('the caller', ['--server', this.sip, '--for', '0', ...args])
  }

  /** The server's own word, beside the page: GET of /api/v1, or PUT or POST of something, in a supervisor's name. */
  async api<T>(path: string, body?: unknown, method = body === undefined ? 'GET' : 'PUT'): Promise<T> {
    const answer = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
    return (await answer.json()) as T
  }

  ticket(number: string): Promise<Ticket> {
    return this.api(`/tickets/${number}`)
  }

  async contact(callID: string): Promise<Contact> {
    if (!callID) throw new Error('the call has no Call-ID yet') // or the newest contact of all would be found
    const found = await this.api<{ items: Contact[] }>(`/contacts?call_id=${encodeURIComponent(callID)}`)
    if (!found.items[0]) throw new Error(`no contact for call ${callID}`)
    return found.items[0]
  }
}

/** A loopback address whose port was free a moment ago. */
function freeAddress(): Promise<string> {
  return new Promise((found, failed) => {
    const server = createServer()
    server.on('error', failed)
    server.listen(0, '127.0.0.1', () => {
      const at = server.address()
      server.close(() => (at && typeof at === 'object' ? found(`127.0.0.1:${at.port}`) : failed(new Error('no port'))))
    })
  })
}

/**
 * A voice, nearly: `seconds` of a buzz that changes its pitch, as a WAV file of
 * 8 kHz and 16 bit. Not a pure tone: it must not be taken for a beep.
 */
export function voice(seconds: number): Buffer {
  const rate = 8000
  const samples = seconds * rate
  const wav = Buffer.alloc(44 + samples * 2)
  wav.write('RIFF', 0)
  wav.writeUInt32LE(36 + samples * 2, 4)
  wav.write('WAVEfmt ', 8)
  wav.writeUInt32LE(16, 16)
  wav.writeUInt16LE(1, 20) // PCM
  wav.writeUInt16LE(1, 22) // one channel
  wav.writeUInt32LE(rate, 24)
  wav.writeUInt32LE(rate * 2, 28)
  wav.writeUInt16LE(2, 32)
  wav.writeUInt16LE(16, 34)
  wav.write('data', 36)
  wav.writeUInt32LE(samples * 2, 40)
  for (let i = 0; i < samples; i++) {
    const t = i / rate
    const pitch = 2 * Math.PI * (140 * t + 8 * Math.sin(3 * t))
    wav.writeInt16LE(Math.round(4000 * (Math.sin(pitch) + 0.8 * Math.sin(3 * pitch) + 0.6 * Math.sin(7 * pitch))), 44 + i * 2)
  }
  return wav
}
