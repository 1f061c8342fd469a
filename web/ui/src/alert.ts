// The system's own notification of a call, for an operator who looks at another
// window. A comfort: whatever the browser forbids or lacks, the telephone rings.

let asked = false
let shown: Notification | null = null

/** Asks, once, for the permission. Browsers want a click before it; nothing waits for the answer. */
export function askToAlert(): void {
  try {
    if (asked || Notification.permission !== 'default') return
    asked = true
    void Notification.requestPermission().catch(() => undefined)
  } catch {
    // a browser without notifications
  }
}

/** Shows who rings, unless the page itself is in sight. */
export function alertRing(title: string, body: string): void {
  hushRing()
  try {
    if (document.visibilityState !== 'hidden' || Notification.permission !== 'granted') return
    const one = new Notification(title, { body, tag: 'pronto-call', icon: '/assets/pronto.svg', requireInteraction: true })
    one.onclick = () => {
      window.focus()
      one.close()
    }
    shown = one
  } catch {
    // as above
  }
}

/** It rings no more, or the page is in sight. */
export function hushRing(): void {
  shown?.close()
  shown = null
}
