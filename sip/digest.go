package sip

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The algorithms of our challenges (RFC 7616 §3.3, RFC 8760).
const (
	algorithmMD5    = "MD5"
	algorithmSHA256 = "SHA-256"
)

const (
	nonceLife  = 5 * time.Minute // then the telephone is asked again, with stale=true
	maxNonces  = 20000           // counted at once: 5 minutes of registrations of thousands of telephones
	nonceBytes = 8 + 8 + 12      // time, random, proof
	maxNC      = 1 << 31
)

// HA1 is H(user:realm:password) in hexadecimal by both algorithms (RFC 7616
// §3.4.2): what is kept of a telephone's password.
func HA1(user, realm, password string) (md5Hex, sha256Hex string) {
	s := user + ":" + realm + ":" + password
	return digestHash(algorithmMD5, s), digestHash(algorithmSHA256, s)
}

func digestHash(algorithm, s string) string {
	if algorithm == algorithmSHA256 {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

// credentials are what an Authorization says, or a challenge.
type credentials struct {
	username, realm, nonce, uri, response, algorithm, qop, nc, cnonce, opaque string

	stale bool // of a challenge: only the nonce was too old
}

// parseCredentials reads a Digest Authorization or challenge; ok is false for other
// schemes.
func parseCredentials(value string) (c credentials, ok bool) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !strings.EqualFold(scheme, "digest") {
		return c, false
	}
	for _, p := range splitQuoted(rest) {
		k, v, _ := strings.Cut(p, "=")
		v = unquote(strings.TrimSpace(v))
		switch strings.ToLower(strings.TrimSpace(k)) {
		case "username":
			c.username = v
		case "realm":
			c.realm = v
		case "nonce":
			c.nonce = v
		case "uri":
			c.uri = v
		case "response":
			c.response = strings.ToLower(v)
		case "algorithm":
			c.algorithm = strings.ToUpper(v)
		case "qop":
			c.qop = strings.ToLower(v)
		case "nc":
			c.nc = v
		case "cnonce":
			c.cnonce = v
		case "opaque":
			c.opaque = v
		case "stale":
			c.stale = strings.EqualFold(v, "true")
		}
	}
	if c.algorithm == "" {
		c.algorithm = algorithmMD5 // RFC 7616 §3.3
	}
	return c, true
}

// splitQuoted splits at commas outside quotes.
func splitQuoted(s string) (parts []string) {
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				parts = append(parts, s[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, s[from:])
}

// digestResponse is what the right password yields (RFC 7616 §3.4.1).
func (c credentials) digestResponse(ha1, method string) string {
	ha2 := digestHash(c.algorithm, method+":"+c.uri)
	if c.qop == "" { // RFC 2069, for old telephones
		return digestHash(c.algorithm, ha1+":"+c.nonce+":"+ha2)
	}
	return digestHash(c.algorithm, strings.Join([]string{ha1, c.nonce, c.nc, c.cnonce, c.qop, ha2}, ":"))
}

// right compares in constant time.
func (c credentials) right(ha1, method string) bool {
	return subtle.ConstantTimeCompare([]byte(c.digestResponse(ha1, method)), []byte(c.response)) == 1
}

// nonces remembers how often each nonce was used, so that an Authorization that
// was overheard is worth nothing. The nonces themselves need no memory: they
// carry their birth and our proof, bound to who asked.
type nonces struct {
	mu   sync.Mutex // guards used
	used map[string]use
}

type use struct {
	nc uint64
	at time.Time
}

func newNonces() *nonces { return &nonces{used: map[string]use{}} }

// newNonce makes a nonce for a source.
func (a *Agent) newNonce(source netip.Addr, now time.Time) string {
	b := make([]byte, 8, nonceBytes)
	binary.BigEndian.PutUint64(b, uint64(now.UnixMilli()))
	b = append(b, randomText()[:8]...)
	return hex.EncodeToString(append(b, a.nonceProof(b, source)...))
}

func (a *Agent) nonceProof(b []byte, source netip.Addr) []byte {
	h := hmac.New(sha256.New, a.secret[:])
	h.Write([]byte("nonce"))
	h.Write(b)
	h.Write([]byte(source.String()))
	return h.Sum(nil)[:12]
}

// checkNonce tells whether a nonce is ours, and whether it is too old.
func (a *Agent) checkNonce(nonce string, source netip.Addr, now time.Time) (ours, stale bool) {
	b, err := hex.DecodeString(nonce)
	if err != nil || len(b) != nonceBytes {
		return false, false
	}
	if !hmac.Equal(b[16:], a.nonceProof(b[:16], source)) {
		return false, false
	}
	age := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b[:8]))))
	return true, age < 0 || age > nonceLife
}

// spend uses a nonce count up; false: it was used before (RFC 7616 §3.4.5). Who
// sends no count may use a nonce once.
func (n *nonces) spend(c credentials, now time.Time) bool {
	count := uint64(maxNC) // without qop there is no next time
	if c.qop != "" {
		v, err := strconv.ParseUint(c.nc, 16, 32)
		if err != nil || v == 0 || v >= maxNC {
			return false
		}
		count = v
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if last, ok := n.used[c.nonce]; ok && count <= last.nc {
		return false
	}
	if len(n.used) >= maxNonces {
		for k, u := range n.used {
			if now.Sub(u.at) > nonceLife {
				delete(n.used, k)
			}
		}
		if len(n.used) >= maxNonces {
			return false // asked again with a new nonce, later
		}
	}
	n.used[c.nonce] = use{count, now}
	return true
}

// onlyMD5 are telephones that give up when a second challenge names an
// algorithm they do not know, whatever the order (seen with libre 1.0).
var onlyMD5 = []string{"baresip v0.", "baresip v1.", "baresip v2."}

// challenges are the WWW-Authenticate lines, in the order of the configuration.
func (a *Agent) challenges(source netip.Addr, userAgent string, stale bool) (lines []string) {
	nonce := a.newNonce(source, time.Now())
	algorithms := a.cfg.Digests
	old := slices.ContainsFunc(onlyMD5, func(name string) bool { return strings.HasPrefix(userAgent, name) })
	if old && slices.Contains(algorithms, algorithmMD5) {
		algorithms = []string{algorithmMD5}
	}
	for _, algorithm := range algorithms {
		line := `Digest realm="` + a.cfg.Realm + `", nonce="` + nonce + `", algorithm=` + algorithm + `, qop="auth"`
		if stale {
			line += ", stale=true"
		}
		lines = append(lines, line)
	}
	return lines
}
