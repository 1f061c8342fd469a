// Where the operator is: the part of the address after #, so that a list with
// its filters can be kept, sent and gone back to.

export type Filter = 'mine' | 'unowned' | 'open' | 'all'
const FILTERS: readonly Filter[] = ['mine', 'unowned', 'open', 'all']

export type Route =
  | { page: 'station' }
  | { page: 'tickets'; filter: Filter; q: string }
  | { page: 'ticket'; number: string }
  | { page: 'messages'; all: boolean }
  | { page: 'ringbacks' }
  | { page: 'operators' }
  | { page: 'search'; q: string }
  | { page: 'manage'; tab: string; rest: string } // how the desk is set up; rest: what of it, as the tab reads it
  | { page: 'unknown' }

export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#/, '').split('?', 2)
  const parts = path.split('/').filter(Boolean)
  const params = new URLSearchParams(query)
  switch (parts[0]) {
    case undefined:
      return { page: 'station' }
    case 'ticket': {
      if (parts[1]) return { page: 'ticket', number: decoded(parts[1]) }
      const filter = FILTERS.find((f) => f === params.get('f')) ?? 'mine'
      return { page: 'tickets', filter, q: params.get('q') ?? '' }
    }
    case 'segreteria':
      return { page: 'messages', all: params.get('f') === 'all' }
    case 'richiamare':
      return { page: 'ringbacks' }
    case 'cerca':
      return { page: 'search', q: params.get('q') ?? '' }
    case 'sala':
    case 'operatori': // its name in 0.1
      return { page: 'operators' }
    case 'gestione':
      return { page: 'manage', tab: parts[1] ?? '', rest: parts.slice(2).map(decoded).join('/') }
    default:
      return { page: 'unknown' }
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part // a broken escape names no ticket
  }
}

export function href(route: Route): string {
  switch (route.page) {
    case 'station':
    case 'unknown':
      return '#/'
    case 'tickets': {
      const p = new URLSearchParams({ f: route.filter })
      if (route.q) p.set('q', route.q)
      return `#/ticket?${p}`
    }
    case 'ticket':
      return `#/ticket/${encodeURIComponent(route.number)}`
    case 'messages':
      return route.all ? '#/segreteria?f=all' : '#/segreteria'
    case 'ringbacks':
      return '#/richiamare'
    case 'operators':
      return '#/sala'
    case 'manage':
      return `#/gestione/${route.tab}${route.rest ? '/' + route.rest.split('/').map(encodeURIComponent).join('/') : ''}`
    case 'search':
      return route.q ? `#/cerca?${new URLSearchParams({ q: route.q })}` : '#/cerca'
  }
}

class Here {
  route = $state.raw<Route>({ page: 'station' })
  /** The last list looked at, to go back to. */
  list = $state('#/ticket?f=mine')

  start(): () => void {
    const read = () => {
      this.route = parse(location.hash)
      if (this.route.page === 'tickets') this.list = href(this.route)
    }
    read()
    window.addEventListener('hashchange', read)
    return () => window.removeEventListener('hashchange', read)
  }

  go(route: Route): void {
    location.hash = href(route)
  }
}

export const here = new Here()
