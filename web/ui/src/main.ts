import { mount } from 'svelte'
import './styles/console.scss'
import App from './App.svelte'

const target = document.getElementById('app')
if (target) {
  target.replaceChildren() // what stands there for browsers without scripts
  mount(App, { target })
}
