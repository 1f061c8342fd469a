package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/crypto/acme"

	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/web"
)

// Config is the file given to `pronto serve`: addresses and secrets. Hours,
// menus, operators and promises are rows, edited while the desk runs. Every key
// is optional; docs/operations.md explains each.
type Config struct {
	Data     string         `toml:"data"`
	SIP      SIPConfig      `toml:"sip"`
	RTP      RTPConfig      `toml:"rtp"`
	HTTP     HTTPConfig     `toml:"http"`
	Nodes    NodesConfig    `toml:"nodes"`
	Database DatabaseConfig `toml:"database"`
	Storage  StorageConfig  `toml:"storage"`
	Recorded RecordedConfig `toml:"recordings"`
	Shutdown ShutdownConfig `toml:"shutdown"`
	Webhooks WebhooksConfig `toml:"webhooks"`
	Log      LogConfig      `toml:"log"`
}

// SIPConfig says where calls come in and whose they may be.
type SIPConfig struct {
	Listen []string `toml:"listen"` // ip:port, UDP and TCP on each
	Realm  string   `toml:"realm"`  // of the telephones' digest

	TLSListen   []string `toml:"tls_listen"`  // ip:port, SIP over TLS
	Certificate string   `toml:"certificate"` // PEM file with the chain; read again when it changes
	Key         string   `toml:"key"`         // PEM file
	SRTP        string   `toml:"srtp"`        // of telephones on TLS: off, offer, required

	Trunks []TrunkConfig `toml:"trunk"`

	DialPrefixes []string `toml:"dial_prefixes"` // whom the desk may dial: beginnings in E.164
	TransferOut  string   `toml:"transfer_out"`  // who may give callers to numbers outside: nobody, supervisors or operators (everybody)

	TraceDays int `toml:"trace_days"` // how long the signalling of calls is kept, masked; 0: not at all
}

// TrunkConfig is a carrier, known by the addresses it sends from.
type TrunkConfig struct {
	Name     string   `toml:"name"`
	Networks []string `toml:"networks"` // 203.0.113.0/28, 2001:db8::/64, or one address
	Lines    int      `toml:"lines"`    // calls at once, in and out; 0: as many as come

	Target   string   `toml:"target"`   // ip:port, name or name:port where its switch takes our calls; "": it takes none
	Standby  []string `toml:"standby"`  // more of them, for when target does not answer
	Progress string   `toml:"progress"` // a duration: how long one may say only that it tries while there is another; "": 12s
	Caller   string   `toml:"caller"`   // the number that is shown, E.164
	Identity string   `toml:"identity"` // where the carrier wants it: from, or asserted (RFC 3325) too

	User     string `toml:"user"`     // of the digest, where the carrier challenges our calls or our registration
	Password string `toml:"password"` // of the same
	Register string `toml:"register"` // the account we register at target; "": the carrier knows where we are
	Domain   string `toml:"domain"`   // of the account's address; "": target's address

	Transport  string `toml:"transport"`   // of what we send to target and standby: udp, tcp or tls
	ServerName string `toml:"server_name"` // tls: what its certificate must be for; "": target's address
	SRTP       string `toml:"srtp"`        // tls: off, offer or required, calls both ways
	Roots      string `toml:"roots"`       // tls: PEM file with who vouches for it, when the system does not
}

// How long a switch of a carrier may say only that it tries (100) before a call goes to
// the next. ITU-T E.721 expects a network to let a number abroad ring within 11 s, for 95
// of 100 calls; and a minute is more than anybody waits.
const (
	progressUsual   = 12 * time.Second
	progressLeast   = 2 * time.Second
	progressLongest = time.Minute
)

// tracesLongest is how long signalling may be kept: a quarter of a year settles any
// dispute with a carrier, and it is no archive.
const tracesLongest = 92 // days

// RTPConfig is the range of ports that sound may use.
type RTPConfig struct {
	Ports string `toml:"ports"` // "20000-24999"
}

// HTTPConfig is where the console is served, and how it is kept secret.
type HTTPConfig struct {
	Listen      string     `toml:"listen"`
	PublicURL   string     `toml:"public_url"`  // what browsers type
	Certificate string     `toml:"certificate"` // PEM file with the chain; read again when it changes
	Key         string     `toml:"key"`         // PEM file
	ACME        ACMEConfig `toml:"acme"`
	Redirect    string     `toml:"redirect"` // ip:port in clear, whose answer is always the https address
	Proxies     []string   `toml:"proxies"`  // networks that may come in clear from elsewhere
}

// ACMEConfig is an authority that issues certificates by itself (RFC 8555).
type ACMEConfig struct {
	Domains   []string `toml:"domains"`
	Email     string   `toml:"email"`
	Directory string   `toml:"directory"`
	Roots     string   `toml:"roots"` // PEM file: who vouches for the authority itself, when the system does not
}

// NodesConfig is where the other servers on the same database reach this one.
type NodesConfig struct {
	Listen string `toml:"listen"`
}

// DatabaseConfig names a PostgreSQL; without one Pronto keeps its own.
type DatabaseConfig struct {
	URL string `toml:"url"`
}

// StorageConfig says how full the disk may become.
type StorageConfig struct {
	KeepFree string `toml:"keep_free"` // "1GiB"; messages are refused below; "0": never
}

// RecordedConfig says who can hear what is recorded: both or none, in clear.
type RecordedConfig struct {
	Recipients []string `toml:"recipients"` // public keys of age(1) to which it is encrypted
	Identities string   `toml:"identities"` // file with the secret keys, former ones too
}

// ShutdownConfig says how long SIGTERM waits for calls to end.
type ShutdownConfig struct {
	Grace string `toml:"grace"` // a duration: "90s", "10m"
}

// WebhooksConfig says where messages may go that the desk sends by itself.
type WebhooksConfig struct {
	AllowPrivate bool `toml:"allow_private"` // to addresses inside the house too, and by http
}

// LogConfig says what is logged to standard error.
type LogConfig struct {
	Level  string `toml:"level"`  // debug, info, warn, error
	Format string `toml:"format"` // text or json
}

const (
	maxConfigFile = 1 << 20          // a configuration is a page, not a book
	goWords       = "struct field"   // in go-toml's words for a string where a list belongs: they name our types, not the key
	maxGrace      = 24 * time.Hour   // longer is a typing error
	graceDefault  = 10 * time.Minute // an ordinary call ends by itself in this time
)

// defaults is what holds where the file and the flags are silent.
func defaults() Config {
	return Config{
		Data:     "data",
		SIP:      SIPConfig{Listen: []string{"127.0.0.1:5060"}, Realm: "pronto", SRTP: "offer", DialPrefixes: tickets.DefaultPrefixes(), TraceDays: 14, TransferOut: "supervisors"},
		RTP:      RTPConfig{Ports: "20000-24999"},
		HTTP:     HTTPConfig{Listen: "127.0.0.1:8080", ACME: ACMEConfig{Directory: acme.LetsEncryptURL}},
		Nodes:    NodesConfig{Listen: "127.0.0.1:0"},
		Storage:  StorageConfig{KeepFree: "1GiB"},
		Shutdown: ShutdownConfig{Grace: graceDefault.String()},
		Log:      LogConfig{Level: "info", Format: "text"},
	}
}

// errConfig marks faults of the configuration: the process exits 78 (EX_CONFIG
// of sysexits.h), so that a supervisor of processes does not start it again.
var errConfig = errors.New("configuration")

// loadConfig reads a configuration file over the defaults. A key that nobody
// knows is refused with its file and line: a misspelt key must not be a silent
// default.
func loadConfig(path string) (Config, error) {
	c := defaults()
	if path == "" {
		return c, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return c, fmt.Errorf("%w: %w", errConfig, err)
	}
	if info.Size() > maxConfigFile {
		return c, fmt.Errorf("%w: %s: larger than %d bytes", errConfig, path, maxConfigFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("%w: %w", errConfig, err)
	}
	if err := parseConfig(text, path, &c); err != nil {
		return c, err
	}
	files := []*string{&c.Data, &c.HTTP.Certificate, &c.HTTP.Key, &c.HTTP.ACME.Roots, &c.SIP.Certificate, &c.SIP.Key, &c.Recorded.Identities}
	for i := range c.SIP.Trunks {
		files = append(files, &c.SIP.Trunks[i].Roots)
	}
	for _, p := range files {
		if *p != "" && !filepath.IsAbs(*p) { // relative to the file, wherever the program was started
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return c, nil
}

// parseConfig reads text into c; path is for its messages.
func parseConfig(text []byte, path string, c *Config) error {
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	err := dec.Decode(c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var list []error
		for _, e := range unknown.Errors {
			row, _ := e.Position()
			list = append(list, fmt.Errorf("%w: %s:%d: unknown key %q", errConfig, path, row, strings.Join(e.Key(), ".")))
		}
		return errors.Join(list...)
	case errors.As(err, &wrong):
		row, _ := wrong.Position()
		reason := strings.TrimPrefix(wrong.Error(), "toml: ")
		if key := strings.Join(wrong.Key(), "."); key != "" && strings.Contains(reason, goWords) {
			reason = fmt.Sprintf("%s: the value is of the wrong kind", key)
		}
		return fmt.Errorf("%w: %s:%d: %s", errConfig, path, row, reason)
	case err != nil:
		return fmt.Errorf("%w: %s: %w", errConfig, path, err)
	}
	return nil
}

// settings is a Config that was checked: every string has become what it means.
type settings struct {
	data      string
	sip       []netip.AddrPort
	sipTLS    []netip.AddrPort
	sipSRTP   sip.SRTP
	sipFiles  [2]string // files of certificate and key
	realm     string
	traceDays int
	trunks    []trunk
	plan      tickets.DialPlan
	freely    []web.Role // who may give callers to numbers outside
	minPort   uint16
	maxPort   uint16
	http      string
	nodes     string
	publicURL string
	httpsSettings
	database string
	keepFree uint64           // bytes
	keys     *recordings.Keys // nil: what is recorded is in clear
	grace    time.Duration
	logLevel string
	logJSON  bool

	hooksInside bool // webhooks may go to addresses inside the house
}

// httpsSettings say how the console is kept secret on its way.
type httpsSettings struct {
	certificate, key string // files; "": none
	acme             acmeSettings
	redirect         string
	proxies          []netip.Prefix
}

type trunk struct {
	name     string
	networks []netip.Prefix
	lines    int // 0: no limit

	target   netip.AddrPort // not valid: it takes no calls of ours, or is known by its name
	host     string         // its name; "": it has an address
	port     uint16         // 0: DNS says
	standby  []netip.AddrPort
	progress time.Duration
	caller   string
	asserted bool // caller stands in P-Asserted-Identity too

	account  sip.Account
	register string // "": no registration
	domain   string

	tcp bool
	tls *tls.Config // nil: not by TLS

	srtp sip.SRTP
}

// out is the trunk that takes our calls, the first that does.
func (s settings) out() (trunk, bool) {
	i := slices.IndexFunc(s.trunks, func(t trunk) bool { return t.dials() })
	if i < 0 {
		return trunk{}, false
	}
	return s.trunks[i], true
}

// dials says whether a trunk takes calls of ours.
func (t trunk) dials() bool { return t.target.IsValid() || t.host != "" }

// where is the trunk's first switch, as it was configured.
func (t trunk) where() string {
	switch {
	case t.host == "":
		return t.target.String()
	case t.port == 0:
		return t.host
	}
	return fmt.Sprintf("%s:%d", t.host, t.port)
}

// transferOut is whom sip.transfer_out names.
var transferOut = map[string][]web.Role{
	"nobody": nil, "supervisors": {web.Supervisor, web.Admin}, "operators": {web.Operator, web.Supervisor, web.Admin},
}

// prefix is the beginning of a number in E.164.
var prefix = regexp.MustCompile(`^\+[1-9][0-9]{0,14}$`)

// check turns a Config into settings, or lists everything that is wrong with it.
func (c Config) check() (settings, error) {
	s := settings{data: c.Data, realm: c.SIP.Realm, traceDays: c.SIP.TraceDays, http: c.HTTP.Listen, nodes: c.Nodes.Listen, publicURL: c.HTTP.PublicURL, database: c.Database.URL}
	var wrong []error
	fault := func(key, format string, args ...any) {
		wrong = append(wrong, fmt.Errorf("%w: %s: %s", errConfig, key, fmt.Sprintf(format, args...)))
	}
	if c.Data == "" {
		fault("data", "a directory is needed")
	} else if abs, err := filepath.Abs(c.Data); err != nil {
		fault("data", "%v", err)
	} else {
		s.data = abs
	}
	if len(c.SIP.Listen) == 0 {
		fault("sip.listen", "at least one address is needed")
	}
	s.sip = listenAddresses("sip.listen", c.SIP.Listen, fault)
	s.sipTLS, s.sipFiles = listenAddresses("sip.tls_listen", c.SIP.TLSListen, fault), [2]string{c.SIP.Certificate, c.SIP.Key}
	if (c.SIP.Certificate == "") != (c.SIP.Key == "") || (c.SIP.Certificate == "") != (len(c.SIP.TLSListen) == 0) {
		fault("sip.tls_listen", "tls_listen, certificate and key belong together")
	}
	var err error
	if s.sipSRTP, err = readSRTP(c.SIP.SRTP); err != nil {
		fault("sip.srtp", "%v", err)
	}
	if strings.ContainsAny(c.SIP.Realm, "\"\\\r\n") || c.SIP.Realm == "" || len(c.SIP.Realm) > 64 {
		fault("sip.realm", "1 to 64 characters without quotes")
	}
	known := false
	if s.freely, known = transferOut[c.SIP.TransferOut]; !known {
		fault("sip.transfer_out", "nobody, supervisors or operators")
	}
	names := map[string]bool{}
	if c.SIP.TraceDays < 0 || c.SIP.TraceDays > tracesLongest {
		fault("sip.trace_days", "between 0, for none, and %d", tracesLongest)
	}
	for i, t := range c.SIP.Trunks {
		key := fmt.Sprintf("sip.trunk[%d]", i+1)
		if t.Name == "" || names[t.Name] {
			fault(key, "every trunk needs a name of its own")
		}
		names[t.Name] = true
		next := trunk{name: t.Name, lines: t.Lines}
		if t.Lines < 0 {
			fault(key, "lines: %d calls at once cannot be", t.Lines)
		}
		for _, n := range t.Networks {
			p, err := parseNetwork(n)
			if err != nil {
				fault(key, "%q is not a network like 203.0.113.0/28", n)
				continue
			}
			next.networks = append(next.networks, p)
		}
		if len(t.Networks) == 0 {
			fault(key, "networks: a trunk is known by the addresses it sends from")
		}
		if err := t.outbound(&next); err != nil {
			fault(key, "%v", err)
		}
		if err := t.transport(&next); err != nil {
			fault(key, "%v", err)
		}
		if next.tls != nil && len(c.SIP.TLSListen) == 0 {
			fault(key, "transport: with tls the carrier reaches us by TLS too: sip.tls_listen is needed")
		}
		s.trunks = append(s.trunks, next)
	}
	for _, p := range c.SIP.DialPrefixes {
		if !prefix.MatchString(p) {
			fault("sip.dial_prefixes", "%q is not the beginning of a number like +390 or +4122", p)
		}
	}
	s.plan = tickets.DialPlan{Prefixes: c.SIP.DialPrefixes}
	for _, t := range s.trunks {
		if t.caller != "" {
			s.plan.Shown = append(s.plan.Shown, t.caller)
		}
	}
	lo, hi, ok := strings.Cut(c.RTP.Ports, "-")
	min, errMin := strconv.ParseUint(lo, 10, 16)
	max, errMax := strconv.ParseUint(hi, 10, 16)
	if !ok || errMin != nil || errMax != nil || min < 1024 || max < min+3 {
		fault("rtp.ports", "%q is not a range of at least four ports above 1023, like 20000-24999", c.RTP.Ports)
	}
	s.minPort, s.maxPort = uint16(min), uint16(max)
	c.HTTP.check(&s, fault)
	if ap, err := netip.ParseAddrPort(c.Nodes.Listen); err != nil {
		fault("nodes.listen", "%q is not an address and a port, like 192.0.2.10:5080", c.Nodes.Listen)
	} else if ap.Addr().IsUnspecified() {
		fault("nodes.listen", "%q listens everywhere: name the address, the other servers are told it", c.Nodes.Listen)
	}
	if s.keepFree, err = parseSize(c.Storage.KeepFree); err != nil {
		fault("storage.keep_free", "%q is not a size like 1GiB, 500MiB or 0", c.Storage.KeepFree)
	}
	if s.keys, err = recordings.ReadKeys(c.Recorded.Recipients, c.Recorded.Identities); err != nil {
		fault("recordings", "%v", err)
	}
	grace, err := time.ParseDuration(c.Shutdown.Grace)
	if err != nil || grace < 0 || grace > maxGrace {
		fault("shutdown.grace", "%q is not a duration between 0s and 24h", c.Shutdown.Grace)
	}
	s.grace = grace
	s.hooksInside = c.Webhooks.AllowPrivate
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
		s.logLevel = c.Log.Level
	default:
		fault("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	switch c.Log.Format {
	case "text", "json":
		s.logJSON = c.Log.Format == "json"
	default:
		fault("log.format", "%q is none of text, json", c.Log.Format)
	}
	return s, errors.Join(wrong...)
}

// outbound reads how calls of ours go out by a trunk, if they do.
func (t TrunkConfig) outbound(to *trunk) (err error) {
	if t.Target == "" {
		if t.Caller != "" || t.Identity != "" || len(t.Standby) > 0 || t.Progress != "" {
			return errors.New("standby, progress, caller and identity are for calls of ours: without target there are none")
		}
		if t.User != "" || t.Password != "" || t.Register != "" || t.Domain != "" {
			return errors.New("user, password, register and domain are said to target: without it nobody hears them")
		}
		return nil
	}
	if (t.User == "") != (t.Password == "") {
		return errors.New("user and password belong together")
	}
	for name, value := range map[string]string{"user": t.User, "register": t.Register, "domain": t.Domain} {
		if len(value) > 128 || strings.ContainsAny(value, " \t\r\n\"<>@") {
			return fmt.Errorf("%s: at most 128 characters, without spaces, quotes and @", name)
		}
	}
	to.account, to.register, to.domain = sip.Account{User: t.User, Password: t.Password}, t.Register, t.Domain
	if to.target, to.host, to.port = switchOf(t.Target); !to.dials() {
		return fmt.Errorf("target: %q is neither an address and a port, like 192.0.2.1:5060, nor a name, like sip.carrier.example", t.Target)
	}
	if to.host != "" && to.register != "" && to.domain == "" {
		to.domain = to.host
	}
	for _, other := range t.Standby {
		at, err := netip.ParseAddrPort(other)
		if err != nil || at.Addr().IsUnspecified() || at.Port() == 0 || at == to.target || slices.Contains(to.standby, at) {
			return fmt.Errorf("standby: %q is not another address and port, like 192.0.2.2:5060", other)
		}
		to.standby = append(to.standby, at)
	}
	if to.progress, err = time.ParseDuration(cmp.Or(t.Progress, progressUsual.String())); err != nil || to.progress < progressLeast || to.progress > progressLongest {
		return fmt.Errorf("progress: %q is not a duration between %s and %s", t.Progress, progressLeast, progressLongest)
	}
	if to.caller = tickets.Normalise(t.Caller); !strings.HasPrefix(to.caller, "+") {
		return fmt.Errorf("caller: %q is not a number in E.164, like +390551234567: it is what people see when they are rung back", t.Caller)
	}
	switch t.Identity {
	case "", "from":
	case "asserted":
		to.asserted = true
	default:
		return fmt.Errorf("identity: %q is none of from, asserted", t.Identity)
	}
	return nil
}

// hostName is a name with at least one dot: the last part is no number.
var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// switchOf reads an address with a port, or a name with or without one; what is
// neither gives nothing.
func switchOf(text string) (at netip.AddrPort, host string, port uint16) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		if at.Addr().IsUnspecified() || at.Port() == 0 {
			return netip.AddrPort{}, "", 0
		}
		return at, "", 0
	}
	host, number, hasPort := strings.Cut(text, ":")
	n, err := strconv.ParseUint(number, 10, 16)
	if len(host) > 253 || !hostName.MatchString(host) || hasPort && (err != nil || n == 0) {
		return netip.AddrPort{}, "", 0
	}
	return netip.AddrPort{}, host, uint16(n)
}

// transport reads how messages travel to a trunk's switches.
func (t TrunkConfig) transport(to *trunk) error {
	switch t.Transport {
	case "", "udp":
	case "tcp":
		to.tcp = true
	case "tls":
		return t.secret(to)
	default:
		return fmt.Errorf("transport: %q is none of udp, tcp, tls", t.Transport)
	}
	if t.ServerName != "" || t.Roots != "" || t.SRTP != "" && t.SRTP != "off" {
		return errors.New(`server_name, roots and srtp are for transport = "tls": without it whoever listens in would read the keys`)
	}
	return nil
}

// secret reads whom we expect to find when we connect to a trunk by TLS.
func (t TrunkConfig) secret(to *trunk) error {
	var err error
	if to.srtp, err = readSRTP(t.SRTP); err != nil {
		return fmt.Errorf("srtp: %w", err)
	}
	to.tls = &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.ServerName == "" && to.host != "" {
		to.tls.ServerName = to.host // RFC 3263 §4.2: whatever the records name
	} else if t.ServerName == "" {
		if t.Target == "" || len(t.Standby) > 0 {
			return errors.New("server_name: needed by TLS unless there is one switch, whose certificate is for its address")
		}
		to.tls.ServerName = to.target.Addr().String()
	}
	if t.Roots == "" {
		return nil
	}
	text, err := readPEM(t.Roots)
	if err != nil {
		return fmt.Errorf("roots: %w", err)
	}
	to.tls.RootCAs = x509.NewCertPool()
	if !to.tls.RootCAs.AppendCertsFromPEM(text) {
		return fmt.Errorf("roots: %s holds no certificate that can be read", t.Roots)
	}
	return nil
}

// readSRTP reads whether sound is encrypted; "": no.
func readSRTP(text string) (sip.SRTP, error) {
	switch text {
	case "", "off":
		return sip.SRTPOff, nil
	case "offer":
		return sip.SRTPOffer, nil
	case "required":
		return sip.SRTPRequired, nil
	}
	return sip.SRTPOff, fmt.Errorf("%q is none of off, offer, required", text)
}

// listenAddresses reads addresses of ours that stand in messages.
func listenAddresses(key string, list []string, fault func(key, format string, args ...any)) (found []netip.AddrPort) {
	for _, l := range list {
		ap, err := netip.ParseAddrPort(l)
		switch {
		case err != nil:
			fault(key, "%q is not an address and a port, like 192.0.2.10:5060", l)
		case ap.Addr().IsUnspecified():
			fault(key, "%q listens everywhere: name the address, it stands in every message we send", l)
		default:
			found = append(found, ap)
		}
	}
	return found
}

// check reads how browsers reach the console.
func (c HTTPConfig) check(s *settings, fault func(key, format string, args ...any)) {
	s.certificate, s.key, s.redirect = c.Certificate, c.Key, c.Redirect
	if (c.Certificate == "") != (c.Key == "") {
		fault("http.certificate", "certificate and key belong together")
	}
	c.ACME.check(s, fault)
	if c.Certificate != "" && len(c.ACME.Domains) > 0 {
		fault("http.acme", "there is a certificate already: remove http.certificate or http.acme.domains")
	}
	secret := c.Certificate != "" || len(c.ACME.Domains) > 0
	host, port, err := net.SplitHostPort(c.Listen)
	if s.publicURL == "" && len(c.ACME.Domains) > 0 {
		s.publicURL = "https://" + c.ACME.Domains[0]
		if port != "443" {
			s.publicURL += ":" + port
		}
	}
	if u, err := url.Parse(s.publicURL); s.publicURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "") {
		fault("http.public_url", "%q is not an address like https://assistenza.example.it", s.publicURL)
	} else if secret && (u == nil || u.Scheme != "https") {
		fault("http.public_url", "with a certificate it is needed, and begins with https://")
	}
	for _, p := range c.Proxies {
		n, err := parseNetwork(p)
		if err != nil {
			fault("http.proxies", "%q is not a network like 10.0.0.0/24", p)
			continue
		}
		s.proxies = append(s.proxies, n)
	}
	if c.Redirect != "" {
		if _, _, err := net.SplitHostPort(c.Redirect); err != nil || !secret {
			fault("http.redirect", "%q: an address and a port, like 192.0.2.10:80, and a certificate are needed", c.Redirect)
		}
	}
	ip, notIP := netip.ParseAddr(host)
	switch {
	case err != nil || port == "" || noPort(port):
		fault("http.listen", "%q is not an address and a port, like 127.0.0.1:8080", c.Listen)
	case secret || notIP == nil && ip.IsLoopback() || host == "localhost":
	case len(s.proxies) == 0 || !strings.HasPrefix(c.PublicURL, "https://"):
		fault("http.listen", "%q is not loopback: passwords would travel in clear. Set http.certificate and http.key, or http.acme.domains; or put a proxy with HTTPS in front, name its address in http.proxies and its https:// address in http.public_url", c.Listen)
	}
}

// noPort says whether nothing can be listened on at a port: no number from 0 to 65535, nor
// a name for one.
func noPort(port string) bool {
	_, err := net.LookupPort("tcp", port)
	return err != nil
}

// domainName is a name that a certificate can be for.
var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]$`)

func (c ACMEConfig) check(s *settings, fault func(key, format string, args ...any)) {
	if len(c.Domains) == 0 {
		return
	}
	s.acme = acmeSettings{domains: c.Domains, email: c.Email, directory: c.Directory}
	for _, d := range c.Domains {
		if !domainName.MatchString(d) {
			fault("http.acme.domains", "%q is not a name like assistenza.example.it", d)
		}
	}
	if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		fault("http.acme.directory", "%q is not an https:// address", c.Directory)
	}
	if c.Roots == "" {
		return
	}
	text, err := readPEM(c.Roots)
	s.acme.roots = x509.NewCertPool()
	if err != nil || !s.acme.roots.AppendCertsFromPEM(text) {
		fault("http.acme.roots", "%s holds no certificate that can be read", c.Roots)
	}
}

// units of sizes, as files and tools write them.
var units = []struct {
	name  string
	bytes uint64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"", 1}}

// parseSize reads a number of bytes like "1GiB".
func parseSize(text string) (uint64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil {
			return 0, err
		}
		if n > math.MaxInt64/u.bytes {
			return 0, strconv.ErrRange
		}
		return n * u.bytes, nil
	}
	return 0, strconv.ErrSyntax
}

// parseNetwork reads a network or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}
