package main

import (
	"bytes"
	"errors"
	"fmt"
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

	"github.com/pronto-desk/pronto/tickets"
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
	Shutdown ShutdownConfig `toml:"shutdown"`
	Webhooks WebhooksConfig `toml:"webhooks"`
	Log      LogConfig      `toml:"log"`
}

// SIPConfig says where calls come in and whose they may be.
type SIPConfig struct {
	Listen []string      `toml:"listen"` // ip:port, UDP and TCP on each
	Realm  string        `toml:"realm"`  // of the telephones' digest
	Trunks []TrunkConfig `toml:"trunk"`

	DialPrefixes []string `toml:"dial_prefixes"` // whom the desk may dial: beginnings in E.164
}

// TrunkConfig is a carrier, known by the addresses it sends from.
type TrunkConfig struct {
	Name     string   `toml:"name"`
	Networks []string `toml:"networks"` // 203.0.113.0/28, 2001:db8::/64, or one address

	Target   string `toml:"target"`   // ip:port where its switch takes our calls; "": it takes none
	Caller   string `toml:"caller"`   // the number that is shown, E.164
	Identity string `toml:"identity"` // where the carrier wants it: from, or asserted (RFC 3325) too
}

// RTPConfig is the range of ports that sound may use.
type RTPConfig struct {
	Ports string `toml:"ports"` // "20000-24999"
}

// HTTPConfig is where the console is served.
type HTTPConfig struct {
	Listen    string `toml:"listen"`
	PublicURL string `toml:"public_url"` // what browsers type, when a proxy stands in front
}

// NodesConfig is where the other servers on the same database reach this one.
type NodesConfig struct {
	Listen string `toml:"listen"`
}

// DatabaseConfig names a PostgreSQL; without one Pronto keeps its own.
type DatabaseConfig struct {
	URL string `toml:"url"`
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
		SIP:      SIPConfig{Listen: []string{"127.0.0.1:5060"}, Realm: "pronto", DialPrefixes: tickets.DefaultPrefixes()},
		RTP:      RTPConfig{Ports: "20000-24999"},
		HTTP:     HTTPConfig{Listen: "127.0.0.1:8080"},
		Nodes:    NodesConfig{Listen: "127.0.0.1:0"},
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
	if c.Data != "" && !filepath.IsAbs(c.Data) { // relative to the file, wherever the program was started
		c.Data = filepath.Join(filepath.Dir(path), c.Data)
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
	realm     string
	trunks    []trunk
	plan      tickets.DialPlan
	minPort   uint16
	maxPort   uint16
	http      string
	nodes     string
	publicURL string
	database  string
	grace     time.Duration

	hooksInside bool // webhooks may go to addresses inside the house
	logLevel    string
	logJSON     bool
}

type trunk struct {
	name     string
	networks []netip.Prefix

	target   netip.AddrPort // not valid: it takes no calls of ours
	caller   string
	asserted bool // caller stands in P-Asserted-Identity too
}

// out is the trunk that takes our calls, the first that does.
func (s settings) out() (trunk, bool) {
	i := slices.IndexFunc(s.trunks, func(t trunk) bool { return t.target.IsValid() })
	if i < 0 {
		return trunk{}, false
	}
	return s.trunks[i], true
}

// prefix is the beginning of a number in E.164.
var prefix = regexp.MustCompile(`^\+[1-9][0-9]{0,14}$`)

// check turns a Config into settings, or lists everything that is wrong with it.
func (c Config) check() (settings, error) {
	s := settings{data: c.Data, realm: c.SIP.Realm, http: c.HTTP.Listen, nodes: c.Nodes.Listen, publicURL: c.HTTP.PublicURL, database: c.Database.URL}
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
	for _, l := range c.SIP.Listen {
		ap, err := netip.ParseAddrPort(l)
		switch {
		case err != nil:
			fault("sip.listen", "%q is not an address and a port, like 192.0.2.10:5060", l)
		case ap.Addr().IsUnspecified():
			fault("sip.listen", "%q listens everywhere: name the address, it stands in every message we send", l)
		default:
			s.sip = append(s.sip, ap)
		}
	}
	if strings.ContainsAny(c.SIP.Realm, "\"\\\r\n") || c.SIP.Realm == "" || len(c.SIP.Realm) > 64 {
		fault("sip.realm", "1 to 64 characters without quotes")
	}
	names := map[string]bool{}
	for i, t := range c.SIP.Trunks {
		key := fmt.Sprintf("sip.trunk[%d]", i+1)
		if t.Name == "" || names[t.Name] {
			fault(key, "every trunk needs a name of its own")
		}
		names[t.Name] = true
		next := trunk{name: t.Name}
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
		s.trunks = append(s.trunks, next)
	}
	for _, p := range c.SIP.DialPrefixes {
		if !prefix.MatchString(p) {
			fault("sip.dial_prefixes", "%q is not the beginning of a number like +390 or +4122", p)
		}
	}
	s.plan = tickets.DialPlan{Prefixes: c.SIP.DialPrefixes}
	lo, hi, ok := strings.Cut(c.RTP.Ports, "-")
	min, errMin := strconv.ParseUint(lo, 10, 16)
	max, errMax := strconv.ParseUint(hi, 10, 16)
	if !ok || errMin != nil || errMax != nil || min < 1024 || max < min+3 {
		fault("rtp.ports", "%q is not a range of at least four ports above 1023, like 20000-24999", c.RTP.Ports)
	}
	s.minPort, s.maxPort = uint16(min), uint16(max)
	if u, err := url.Parse(c.HTTP.PublicURL); c.HTTP.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		fault("http.public_url", "%q is not an address like https://assistenza.example.it", c.HTTP.PublicURL)
	}
	if host, port, err := net.SplitHostPort(c.HTTP.Listen); err != nil || port == "" {
		fault("http.listen", "%q is not an address and a port, like 127.0.0.1:8080", c.HTTP.Listen)
	} else if ip, err := netip.ParseAddr(host); (err != nil || !ip.IsLoopback()) && host != "localhost" && !strings.HasPrefix(c.HTTP.PublicURL, "https://") {
		fault("http.listen", "%q is not loopback: passwords would travel in clear. Put a proxy with HTTPS in front and set http.public_url to its https:// address", c.HTTP.Listen)
	}
	if ap, err := netip.ParseAddrPort(c.Nodes.Listen); err != nil {
		fault("nodes.listen", "%q is not an address and a port, like 192.0.2.10:5080", c.Nodes.Listen)
	} else if ap.Addr().IsUnspecified() {
		fault("nodes.listen", "%q listens everywhere: name the address, the other servers are told it", c.Nodes.Listen)
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
		if t.Caller != "" || t.Identity != "" {
			return errors.New("caller and identity are for calls of ours: without target there are none")
		}
		return nil
	}
	if to.target, err = netip.ParseAddrPort(t.Target); err != nil || to.target.Addr().IsUnspecified() || to.target.Port() == 0 {
		return fmt.Errorf("target: %q is not an address and a port, like 192.0.2.1:5060", t.Target)
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

// parseNetwork reads a network or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}
