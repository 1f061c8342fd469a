package sip

import "testing"

// TestDigest holds our answers to challenges against those that the standards print:
// everywhere else both sides of a test reckon by the same function.
func TestDigest(t *testing.T) {
	const number, twice = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	for name, x := range map[string]struct {
		password string
		c        credentials
	}{
		"RFC 7616 §3.9.1, MD5": {"Circle of Life", credentials{realm: "http-auth@example.org", nonce: number, cnonce: twice, qop: "auth", nc: "00000001", algorithm: algorithmMD5,
			response: "8ca523f5e9506fed4657c9700eebdbec"}},
		"RFC 7616 §3.9.1, SHA-256": {"Circle of Life", credentials{realm: "http-auth@example.org", nonce: number, cnonce: twice, qop: "auth", nc: "00000001", algorithm: algorithmSHA256,
			response: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"}},
		"RFC 2069 §2.4, as its erratum 749 has it": {"CircleOfLife", credentials{realm: "testrealm@host.com", nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093", algorithm: algorithmMD5,
			response: "1949323746fe6a43ef61f9606e7febea"}},
	} {
		x.c.uri = "/dir/index.html"
		ha1, long := HA1("Mufasa", x.c.realm, x.password)
		if x.c.algorithm == algorithmSHA256 {
			ha1 = long
		}
		if !x.c.right(ha1, "GET") {
			t.Errorf("%s: %s", name, x.c.digestResponse(ha1, "GET"))
		}
	}
}
