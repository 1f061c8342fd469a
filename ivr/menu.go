package ivr

import (
	"sync"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets"
)

// menu is a service's question as it sounds, put together once: it is 20 s of
// sound, and everybody who rings the service hears the same.
type menu struct {
	of           *tickets.Service // as it was read; another pointer is another menu
	edition      int64            // of the prompts; another one is another sound
	notice       audio.Clip       // the welcome and the recording notice, where there is one; first is without welcome then
	first, again audio.Clip
}

// menus are the questions of all services, by the service's id.
type menus struct {
	mu   sync.Mutex // guards list
	list map[int64]menu
}

// menu is the question of a service as it is now.
func (d *Desk) menu(s *tickets.Service) menu {
	d.menus.mu.Lock()
	defer d.menus.mu.Unlock()
	edition := d.Prompts.Edition() // before the clips: in doubt it is put together once more
	m, known := d.menus.list[s.ID]
	if known && m.of == s && m.edition == edition {
		return m
	}
	question := d.Prompts.Menu(choices(s))
	m = menu{
		of:      s,
		edition: edition,
		first:   audio.Join("benvenuto, menu", d.Prompts.Clip(prompts.Welcome), question),
		again:   audio.Join("non_capito, menu", d.Prompts.Clip(prompts.NotHeard), question),
	}
	if s.RecordingNotice {
		m.notice = audio.Join("benvenuto, avviso", d.Prompts.Clip(prompts.Welcome), d.Prompts.Clip(prompts.Recorded))
		m.first = question
	}
	if d.menus.list == nil {
		d.menus.list = map[int64]menu{}
	}
	d.menus.list[s.ID] = m
	return m
}

// choices are the menu's keys as the prompts read them.
func choices(s *tickets.Service) []prompts.Choice {
	var list []prompts.Choice
	for _, m := range s.Menu {
		choice := prompts.Choice{Key: m.Key, Code: m.Topic.Code, Name: m.Topic.Name}
		if m.Action == tickets.ActionState {
			choice = prompts.Choice{Key: m.Key, Code: prompts.ChoiceState}
		}
		list = append(list, choice)
	}
	return list
}
