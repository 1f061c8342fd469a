package tickets

// Ending is how a contact ended. Every contact gets exactly one.
type Ending string

// The endings that reports count (docs/glossary.md). RefusedUnknownNumber is ours: an INVITE for a
// number that is no service is answered 404 and still is a contact.
const (
	Served                Ending = "served"
	MessageLeft           Ending = "voicemail"
	NoMessage             Ending = "no_message" // less than ShortestMessage of sound
	CallbackBooked        Ending = "callback_booked"
	SelfServed            Ending = "self_served" // heard a ticket's state
	AbandonedBeforeAnswer Ending = "abandoned_before_answer"
	AbandonedIVR          Ending = "abandoned_ivr"
	AbandonedQueue        Ending = "abandoned_queue"
	ShortAbandoned        Ending = "short_abandoned"
	RefusedNoLine         Ending = "refused_no_line"
	RefusedMobile         Ending = "refused_mobile"
	RefusedIncompatible   Ending = "refused_incompatible" // no common codec
	RefusedClosing        Ending = "refused_closing"      // the server drains
	RefusedUnknownNumber  Ending = "refused_unknown_number"
	OutOfHoursNoMessage   Ending = "out_of_hours_no_message"
	NoOperator            Ending = "no_operator"
	Overflow              Ending = "overflow"
	TransferredOut        Ending = "transferred_out"
	SystemFault           Ending = "system_fault"
	NotReached            Ending = "not_reached" // of outbound contacts: why is in their outcome
)

// owed says when a contact with a known caller is put on the list of calls to
// ring back.
type owed int

const (
	never  owed = iota
	always      // the caller wanted somebody and got nobody
	chosen      // only when the caller had chosen from the menu: before that nothing was asked of us
)

// endings is the closed set: what an ending is called on screens and what it
// brings about.
var endings = map[Ending]struct {
	label    string // Italian
	ringBack owed
	silent   bool // a ticket opened for a message is closed: there is none
}{
	Served:                {label: "Servita"},
	MessageLeft:           {label: "Messaggio in segreteria"},
	NoMessage:             {label: "Nessun messaggio", silent: true},
	CallbackBooked:        {label: "Richiamata prenotata"},
	SelfServed:            {label: "Risposta automatica"},
	AbandonedBeforeAnswer: {label: "Abbandonata prima della risposta"},
	AbandonedIVR:          {label: "Abbandonata nel menu", ringBack: chosen},
	AbandonedQueue:        {label: "Abbandonata in coda", ringBack: always},
	ShortAbandoned:        {label: "Abbandonata subito"},
	RefusedNoLine:         {label: "Nessuna linea libera"},
	RefusedMobile:         {label: "Rifiutata: da rete mobile"},
	RefusedIncompatible:   {label: "Rifiutata: audio non compatibile"},
	RefusedClosing:        {label: "Rifiutata: sistema in chiusura"},
	RefusedUnknownNumber:  {label: "Rifiutata: numero inesistente"},
	OutOfHoursNoMessage:   {label: "Fuori orario, senza messaggio", silent: true},
	NoOperator:            {label: "Nessun operatore", ringBack: always},
	Overflow:              {label: "Deviata"},
	TransferredOut:        {label: "Trasferita all'esterno"},
	SystemFault:           {label: "Interrotta da un guasto", ringBack: always},
	NotReached:            {label: "Non raggiunto"},
}

// Known says whether e is one of the endings.
func (e Ending) Known() bool { _, ok := endings[e]; return ok }

// Label is the ending in Italian, as screens show it.
func (e Ending) Label() string { return endings[e].label }
