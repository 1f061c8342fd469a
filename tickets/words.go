package tickets

// Code is a code of a closed set with its Italian name.
type Code struct {
	Code string `json:"code"`
	Name string `json:"name"`
}

// CallState is the call type of who asks how a request stands.
const CallState = "stato"

// CallTypes are the coded kinds of call (A5); the first is the default.
func CallTypes() []Code {
	return []Code{
		{"intervento", "Richiesta di intervento"},
		{"informazioni", "Richiesta di informazioni o chiarimenti"},
		{CallState, "Stato di una richiesta"},
		{"sollecito", "Sollecito"},
		{"reclamo", "Reclamo"},
		{"modifica", "Richiesta di modifica o miglioramento"},
		{"non_tecnica", "Non tecnica (di competenza dell'azienda sanitaria)"},
	}
}

// Outcomes are how an operator may close a ticket.
func Outcomes() []Code {
	return []Code{
		{"risolto", "Risolto"},
		{outcomeRingBack, "Da richiamare"},
		{"inoltrato", "Inoltrato al 2° livello"},
		{"non_pertinente", "Non pertinente"},
	}
}

// outcomeRingBack promises the caller another call.
const outcomeRingBack = "da_richiamare"

// outcomeNoMessage closes the ticket of a message that was none. No person
// chooses it.
const outcomeNoMessage = "senza_messaggio"

// FaultTypes are the words for how bad a fault is (C3).
func FaultTypes() []Code {
	return []Code{
		{"bloccante", "Guasto bloccante"},
		{"non_bloccante", "Anomalia non bloccante"},
	}
}

// outcomeName is an outcome in Italian.
func outcomeName(code string) string {
	if code == outcomeNoMessage {
		return "Senza messaggio"
	}
	for _, o := range Outcomes() {
		if o.Code == code {
			return o.Name
		}
	}
	return code
}

// AttemptOutcomes are what can come of ringing somebody back, as queue says it.
func AttemptOutcomes() []Code {
	return []Code{
		{"reached", "Raggiunto"},
		{"no_answer", "Non risponde"},
		{"busy", "Occupato"},
		{"refused", "Ha rifiutato la chiamata"},
		{"wrong_number", "Numero inesistente"},
		{"not_allowed", "Numero che non si può chiamare"},
		{"no_line", "Linea in uscita non disponibile"},
		{"operator_gone", "Riagganciato prima della risposta"},
		{"system_fault", "Interrotta da un guasto"},
	}
}

// attemptName is the outcome of an attempt in Italian.
func attemptName(code string) string {
	for _, o := range AttemptOutcomes() {
		if o.Code == code {
			return o.Name
		}
	}
	return code
}
