// The websocket: greets, resumes, notices silence, comes back. What the
// messages mean is the reducer's.

import { nothing, receive, type Model } from './reducer'
import type { Event, FromServer, ToServer } from './contract'

export type Light = 'connected' | 'reconnecting' | 'offline'

/** Ticks come every 5 s: two missed and a bit is silence. */
export const SILENCE = 12_000
/** The first new attempt comes within this, in ms; then the limit doubles… */
export const RETRY_FIRST = 500
/** …up to this. */
export const RETRY_MOST = 10_000
/** This long without the server and the light says so. */
export const OFFLINE_AFTER = 20_000
/** The server closes so when the session is over: coming back would be refused. */
export const SIGNED_OUT = 4401

/** The part of a browser's WebSocket that is used. */
export interface Wire {
  send(data: string): void
  close(): void
  onopen: ((e: unknown) => void) | null
  onmessage: ((e: { data: unknown }) => void) | null
  onclose: ((e: { code?: number }) => void) | null
}

export interface LinkOptions {
  open: () => Wire
  /** The model after each message that changed it, and the event if it was one. */
  changed: (model: Model, event: Event | null) => void
  light: (light: Light) => void
  /** An instant of the server's clock. */
  heard: (at: string) => void
  /** The server is there, but what it shows may be old: its database is away. */
  stale: (stale: boolean) => void
  /** What a supervisor must know of the installation, or ''. */
  alarm: (alarm: string) => void
  signedOut: () => void
  random?: () => number
}

export class Link {
  private model: Model = nothing
  private wire: Wire | null = null
  /** The server has answered our hello on this wire. */
  private greeted = false
  private attempts = 0
  private stopped = false
  private retry: ReturnType<typeof setTimeout> | undefined
  private silence: ReturnType<typeof setTimeout> | undefined
  private away: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly o: LinkOptions) {}

  start(): void {
    this.o.light('reconnecting')
    this.awayFromNow()
    this.connect()
  }

  stop(): void {
    this.stopped = true
    clearTimeout(this.retry)
    clearTimeout(this.silence)
    clearTimeout(this.away)
    this.drop()
  }

  /** The network is back or the tab is looked at again: do not wait for the timer. */
  nudge(): void {
    if (this.stopped || this.wire) return
    clearTimeout(this.retry)
    this.connect()
  }

  /** False when it could not be sent: there is no connection. */
  send(message: ToServer): boolean {
    if (!this.wire || !this.greeted) return false
    this.wire.send(JSON.stringify(message))
    return true
  }

  /** What the answer to a command already says need not wait for its event. */
  amend(change: (model: Model) => Model): void {
    this.model = change(this.model)
    this.o.changed(this.model, null)
  }

  private connect(): void {
    let wire: Wire
    try {
      wire = this.o.open()
    } catch {
      this.later()
      return
    }
    this.wire = wire
    this.greeted = false
    wire.onopen = () => {
      if (wire !== this.wire) return
      wire.send(JSON.stringify({ type: 'hello', epoch: this.model.epoch, seq: this.model.seq } satisfies ToServer))
      this.listen()
    }
    wire.onmessage = (e) => {
      if (wire === this.wire) this.take(e.data)
    }
    wire.onclose = (e) => {
      if (wire !== this.wire) return
      if (e.code === SIGNED_OUT) {
        this.stop()
        this.o.light('offline')
        this.o.signedOut()
        return
      }
      this.gone()
    }
    this.listen() // a wire that never opens is silent too
  }

  private take(data: unknown): void {
    let message: FromServer
    try {
      message = JSON.parse(String(data)) as FromServer
    } catch {
      return // not ours
    }
    this.listen()
    if (message.type === 'tick') {
      this.o.heard(message.at)
      this.o.stale(message.away === true)
      this.o.alarm(message.alarm ?? '')
    }
    if (message.type === 'away') this.o.stale(true)
    if (message.type === 'snapshot') this.o.heard(message.state.now)
    if (message.type === 'snapshot' || message.type === 'resumed') this.here()
    const before = this.model
    const step = receive(before, message)
    this.model = step.model
    if (step.ask) this.wire?.send(JSON.stringify({ type: 'snapshot' } satisfies ToServer))
    if (step.model !== before) {
      const event = message.type === 'event' ? ({ kind: message.kind, data: message.data } as Event) : null
      this.o.changed(step.model, event)
    }
  }

  private here(): void {
    this.greeted = true
    this.attempts = 0
    clearTimeout(this.away)
    this.away = undefined
    this.o.stale(false)
    this.o.light('connected')
  }

  /** Something was heard: the silence starts anew. */
  private listen(): void {
    clearTimeout(this.silence)
    this.silence = setTimeout(() => this.gone(), SILENCE)
  }

  private gone(): void {
    this.drop()
    if (this.stopped) return
    if (this.away === undefined) {
      this.o.light('reconnecting')
      this.awayFromNow()
    }
    this.later()
  }

  private awayFromNow(): void {
    this.away = setTimeout(() => this.o.light('offline'), OFFLINE_AFTER)
  }

  private drop(): void {
    clearTimeout(this.silence)
    const wire = this.wire
    this.wire = null
    this.greeted = false
    if (wire) {
      wire.onopen = wire.onmessage = wire.onclose = null
      wire.close()
    }
  }

  private later(): void {
    this.wire = null
    // Full jitter: after a restart of the server two hundred tabs do not come back at one instant.
    const most = Math.min(RETRY_MOST, RETRY_FIRST * 2 ** this.attempts)
    this.attempts++
    clearTimeout(this.retry)
    this.retry = setTimeout(() => this.connect(), (this.o.random ?? Math.random)() * most)
  }
}
