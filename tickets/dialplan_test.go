package tickets

import (
	"errors"
	"strings"
	"testing"
)

func TestDialPlan(t *testing.T) {
	home := DialPlan{Prefixes: DefaultPrefixes()}
	wide := DialPlan{Prefixes: []string{"+"}} // whatever an administrator writes, some numbers are never dialled
	for number, want := range map[string][2]string{
		"+390551234567":   {"", ""},
		"055 1234567":     {"", ""},
		"+39 06 12345":    {"", ""},
		"+393331234567":   {"", ""},
		"333 123456":      {"", ""},
		"":                {notANumber, notANumber},
		"anonymous":       {notANumber, notANumber},
		"sto scrivendo":   {notANumber, notANumber},
		"112":             {neverDialed, neverDialed},
		"118":             {neverDialed, neverDialed},
		"+39112":          {neverDialed, neverDialed},
		"199123456":       {neverDialed, neverDialed},
		"+39199123456":    {neverDialed, neverDialed},
		"892424":          {neverDialed, neverDialed},
		"+39892424":       {neverDialed, neverDialed},
		"899123456":       {neverDialed, neverDialed},
		"800123456":       {neverDialed, neverDialed},
		"+39899123456":    {neverDialed, neverDialed},
		"+39055":          {neverDialed, neverDialed},
		"+3933312345":     {neverDialed, neverDialed},
		"+881612345678":   {neverDialed, neverDialed},
		"+97912345678":    {neverDialed, neverDialed},
		"+41227305111":    {notInPlan, ""},
		"004122 730 5111": {notInPlan, ""},
	} {
		for i, plan := range []DialPlan{home, wide} {
			var refusal *Refusal
			got := ""
			if err := plan.Allows(number); errors.As(err, &refusal) {
				got = refusal.Reason
			} else if err != nil {
				t.Errorf("%q: %v is no refusal", number, err)
			}
			if got != want[i] {
				t.Errorf("%q with %v: %q, want %q", number, plan.Prefixes, got, want[i])
			}
		}
	}
	if (DialPlan{}).Allows("+390551234567") == nil {
		t.Error("a plan without prefixes dials")
	}
}

// FuzzDialPlan: whatever somebody left as their number, what is dialled is a
// person's number in Italy.
func FuzzDialPlan(f *testing.F) {
	f.Add("+39 055/123.45.67")
	f.Add("sip:+390551234567@evil.example;user=phone")
	f.Add("0039899123456")
	f.Fuzz(func(t *testing.T, number string) {
		if (DialPlan{Prefixes: DefaultPrefixes()}).Allows(number) != nil {
			return
		}
		if n := Normalise(number); !italianPerson.MatchString(n) || strings.HasPrefix(n, "+398") {
			t.Fatalf("%q is dialled as %q", number, n)
		}
	})
}
