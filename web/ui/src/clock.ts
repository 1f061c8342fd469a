// The server's clock. Waits and countdowns are the server's, and a PC may be
// minutes off: every instant from the server corrects the difference.

/** As many samples as a minute of ticks brings: the offset follows a clock that is set meanwhile. */
const SAMPLES = 12

export class ServerClock {
  private offsets: number[] = []

  constructor(private readonly local: () => number = Date.now) {}

  /** An instant the server has just sent. */
  heard(at: string): void {
    const server = Date.parse(at)
    if (Number.isNaN(server)) return
    this.offsets.push(server - this.local())
    if (this.offsets.length > SAMPLES) this.offsets.shift()
  }

  /** A message is on its way for some time, which makes an offset too small: the largest is the truest. */
  get offset(): number {
    return this.offsets.length ? Math.max(...this.offsets) : 0
  }

  /** The server's time in milliseconds. */
  now(): number {
    return this.local() + this.offset
  }
}
