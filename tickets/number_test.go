package tickets

import "testing"

func TestNormalise(t *testing.T) {
	for _, c := range []struct{ in, want, why string }{
		{"+390551234567", "+390551234567", "E.164 already"},
		{"0551234567", "+390551234567", "Italian landlines keep their zero"},
		{"055 123-45.67", "+390551234567", "what people write"},
		{"055/1234567", "+390551234567", "the Italian slash"},
		{"(055) 1234567", "+390551234567", "brackets"},
		{"055\u00a01234567", "+390551234567", "a spreadsheet's hard space"},
		{"00390551234567", "+390551234567", "the international prefix"},
		{"390551234567", "+390551234567", "a trunk without +"},
		{"3906698", "+3906698", "a bare code before a short landline"},
		{"393331234567", "+393331234567", "a bare code before a mobile number"},
		{"3331234567", "+393331234567", "a mobile number"},
		{"3921234567", "+393921234567", "a mobile number that begins with 39"},
		{"3931234567", "+393931234567", "another"},
		{"333123456", "+39333123456", "an old mobile number of nine digits"},
		{"+39 333 123 4567", "+393331234567", "spaces"},
		{"800000001", "800000001", "toll-free stays as dialled"},
		{"+39800123456", "800123456", "also with the code"},
		{"0039800123456", "800123456", "also with the prefix"},
		{"39800123456", "800123456", "also with a bare code"},
		{"800 123 456", "800123456", "spaces"},
		{"848800123", "848800123", "shared cost"},
		{"199123456", "199123456", "199"},
		{"112", "112", "emergency"},
		{"118", "118", "ambulance"},
		{"1500", "1500", "the ministry's number"},
		{"+39112", "112", "a carrier's form of it"},
		{"1001", "1001", "an extension"},
		{"0123", "0123", "an extension with a zero"},
		{"+442079460018", "+442079460018", "abroad"},
		{"+44 (0)20 7946 0018", "+442079460018", "with the zero one dials at home"},
		{"+39 (0)55 1234567", "+390551234567", "in Italy that zero is dialled from abroad too"},
		{"0044 20 7946 0018", "+442079460018", "abroad by prefix"},
		{"+378 0549 882345", "+3780549882345", "San Marino"},
		{"sip:+390551234567@example.it", "+390551234567", "a SIP address"},
		{"sips:0551234567@10.0.0.1:5061;user=phone", "+390551234567", "with port and parameters"},
		{"tel:+39-055-1234567;phone-context=x", "+390551234567", "a tel address"},
		{"  +390551234567  ", "+390551234567", "blanks around"},
		{"anonymous", "", "withheld"},
		{"Anonymous", "", "withheld, capitals"},
		{"sip:anonymous@anonymous.invalid", "", "RFC 3323"},
		{"restricted", "", "a carrier's word"},
		{"unavailable", "", "another"},
		{"", "", "nothing"},
		{"+", "", "only a plus"},
		{"00", "", "only a prefix"},
		{"alice", "", "a name"},
		{"1-800-FLOWERS", "", "letters"},
		{"055123456x", "", "a letter at the end"},
		{"٠٥٥١٢٣٤", "", "other alphabets' digits"},
		{"+3905512345678901234", "", "longer than E.164 allows"},
		{"+0551234567", "", "no country begins with 0"},
		{"7", "", "one digit"},
	} {
		if got := Normalise(c.in); got != c.want {
			t.Errorf("Normalise(%q) = %q, want %q: %s", c.in, got, c.want, c.why)
		}
	}
}

func TestReachable(t *testing.T) {
	for number, want := range map[string]bool{
		"+390551234567": true, "+393331234567": true, "+442079460018": true,
		"800123456": false, "112": false, "1001": false, "": false, "+3905": false,
	} {
		if got := reachable(number); got != want {
			t.Errorf("reachable(%q) = %v, want %v", number, got, want)
		}
	}
}

// FuzzNormalise: whatever stands in a From header, the result has the one form
// that rows have, and is a fixed point.
func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"+390551234567", "0039", "800000001", "sip:anonymous@x", "+44 (0)20 7946 0018", "(0)(0)", "39039039", "+39+39", "1500", "000039"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := Normalise(in)
		if out != "" && !wellFormed.MatchString(out) {
			t.Fatalf("Normalise(%q) = %q is not in the form of our rows", in, out)
		}
		if again := Normalise(out); again != out {
			t.Fatalf("Normalise(%q) = %q, and of that %q", in, out, again)
		}
	})
}

func TestMobile(t *testing.T) {
	for number, want := range map[string]bool{
		"+393331234567": true, "+393471234567": true, "+39391234567": true,
		"+390551234567": false, "+39055": false, "+3955123456": false, "800123456": false, "199123456": false, "112": false, "1001": false, "": false,
		"+41791234567": true, "+41443643535": false, // Switzerland
		"+33612345678": true, "+447911123456": true, "+442079460018": false,
		"+12125550123": false, // America does not tell them apart
		"+999123456":   false, "+3": false, "+": false,
	} {
		if got := Mobile(number); got != want {
			t.Errorf("%q: %v", number, got)
		}
	}
}
