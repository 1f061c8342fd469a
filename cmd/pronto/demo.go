package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/calendar"
	"github.com/pronto-desk/pronto/web"
)

const (
	maxDemoOperators = 500
	demoWrapUp       = 3 // seconds: a demonstration does not wait a minute
	demoFirstPhone   = 1001
	demoState        = '5'              // the key for the state of a request, after the topics
	demoNobody       = 15 * time.Minute // nobody is at work when a stranger rings first: music, not excuses
)

// demoSecrets are the passwords of DIR/demo.json: made at the first start, so
// that no installation shares them.
type demoSecrets struct {
	Users  map[string]string `json:"users"`  // by name
	Phones map[string]string `json:"phones"` // by extension
}

// demoTopics are the matters of a desk for doctors (C7), in the menu's order.
var demoTopics = []tickets.Topic{
	{Code: "software", Name: "Cartella clinica"},
	{Code: "certificati", Name: "Certificati di malattia"},
	{Code: "carta", Name: "Smart card e collegamenti"},
	{Code: "non-tecnica", Name: "Richiesta non tecnica"},
}

// demoServices are one number per situation: always open, always closed, office
// hours.
var demoServices = []tickets.Service{
	{Number: "800000001", Name: "Assistenza medici, sempre attiva", Hours: calendar.Hours{Always: true}},
	{Number: "800000002", Name: "Assistenza medici, sempre chiusa"},
	{Number: "800123456", Name: "Assistenza medici", Hours: officeHours(8*60, 20*60)},
}

// demoDoctors are three callers, as an administration's file would bring them.
// The second and third share a surgery and its telephone.
const demoDoctors = `codice,nome,ambulatorio,azienda,email,numeri
1042,Mario Rossi,Ambulatorio di via dei Servi,Azienda USL Toscana Centro,mario.rossi@medici.example,+390551234567 +393331234567
1077,Lucia Bianchi,Studio associato Le Cure,Azienda USL Toscana Centro,lucia.bianchi@medici.example,+390559876543
1078,Giovanna De Angelis,Studio associato Le Cure,Azienda USL Toscana Centro,giovanna.deangelis@medici.example,+390559876543 +393477654321
`

// officeHours are Monday to Friday from open to close, in minutes of the day.
func officeHours(open, close int) calendar.Hours {
	var h calendar.Hours
	for day := time.Monday; day <= time.Friday; day++ {
		h.Week[day] = []calendar.Span{{Open: open, Close: close}}
	}
	return h
}

// demoOperator is the name of operator n, from 1.
func demoOperator(n int) string {
	switch n {
	case 1:
		return "anna"
	case 2:
		return "bruno"
	}
	return "op" + strconv.Itoa(n)
}

// seedDemo adds what the demo lacks; what is there, changed by hand or not, stays.
func (h *house) seedDemo(ctx context.Context, operators int) error {
	path := filepath.Join(h.data, "demo.json")
	secrets := demoSecrets{Users: map[string]string{}, Phones: map[string]string{}}
	text, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(text, &secrets); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	codes, err := h.seedServices(ctx)
	if err != nil {
		return err
	}
	if customers, err := h.book.Customers(ctx, "", "", 1); err != nil {
		return err
	} else if len(customers.Items) == 0 {
		if _, err := h.book.ImportCustomers(ctx, strings.NewReader(demoDoctors), 0, time.Now()); err != nil {
			return fmt.Errorf("doctors: %w", err)
		}
	}
	people := []person{
		{name: "carla", display: "Carla Supervisore", role: web.Supervisor},
		{name: "dora", display: "Dora Amministratrice", role: web.Admin},
	}
	for n := 1; n <= operators; n++ {
		name := demoOperator(n)
		people = append(people, person{name, strings.ToUpper(name[:1]) + name[1:], web.Operator, strconv.Itoa(demoFirstPhone + n - 1)})
	}
	added := 0
	var renewed []string
	for _, p := range people {
		if secrets.Users[p.name] != "" {
			continue
		}
		there, err := h.seedPerson(ctx, p, codes, secrets)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if there {
			renewed = append(renewed, p.name)
		}
		added++
	}
	if added == 0 {
		return nil
	}
	out, err := json.MarshalIndent(secrets, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(path, string(out)+"\n", 0o600); err != nil {
		return err
	}
	h.log.Info("demo: passwords are in", "file", path)
	if len(renewed) > 0 { // perhaps not the demo's people, or another node's demo.json told theirs
		h.log.Warn("demo: people who were there got new passwords; those they had are void", "people", renewed)
	}
	return nil
}

type person struct {
	name, display string
	role          web.Role
	extension     string
}

// seedPerson adds one person, with a telephone and every skill if it has an
// extension. Somebody left over from a lost demo.json gets a new password: there.
func (h *house) seedPerson(ctx context.Context, p person, codes []string, secrets demoSecrets) (there bool, err error) {
	users := h.web.Users()
	password := newPassword()
	_, err = users.Add(ctx, p.name, p.display, p.role, password, p.extension)
	if there = errors.Is(err, web.ErrUserExists); there {
		err = users.SetPassword(ctx, p.name, password)
	}
	if err != nil {
		return there, err
	}
	secrets.Users[p.name] = password
	if p.extension == "" {
		return there, nil
	}
	if err := users.SetWrapUp(ctx, p.name, demoWrapUp); err != nil {
		return there, err
	}
	if err := users.SetSkills(ctx, p.name, codes...); err != nil {
		return there, err
	}
	secret := newPassword()
	if err := users.SetPhone(ctx, p.extension, h.realm, secret); err != nil {
		return there, err
	}
	secrets.Phones[p.extension] = secret
	return there, nil
}

// seedServices adds topics and numbers where there are none, and gives the
// topics' codes.
func (h *house) seedServices(ctx context.Context) (codes []string, err error) {
	for _, t := range demoTopics {
		codes = append(codes, t.Code)
	}
	there, err := h.book.Services(ctx)
	if err != nil || len(there) > 0 {
		return codes, err
	}
	var menu []tickets.MenuItem
	for i, t := range demoTopics {
		topic, err := h.book.PutTopic(ctx, t.Code, t.Name)
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Code, err)
		}
		menu = append(menu, tickets.MenuItem{Key: rune('1' + i), Topic: topic, Default: i == 0})
	}
	menu = append(menu, tickets.MenuItem{Key: demoState, Action: tickets.ActionState})
	for _, s := range demoServices {
		s.Menu, s.CallbackOffered, s.NobodyWait = menu, true, demoNobody
		if _, err := h.book.PutService(ctx, s); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Number, err)
		}
	}
	return codes, nil
}

// newPassword is 16 letters and digits that survive dictation: 80 bits.
func newPassword() string {
	raw := make([]byte, 10)
	rand.Read(raw)
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw))
}
