package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pronto-desk/pronto/tickets"
)

// TestConfigRefuses holds every message against what an administrator needs to
// find the fault: file, line, key, and what would be right.
func TestConfigRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":         {"data = \"x\"\n[sip]\nlissen = [\"127.0.0.1:5060\"]\n", `pronto.toml:3: unknown key "sip.lissen"`},
		"wrong type":          {"[http]\nlisten = 8080\n", "pronto.toml:2:"},
		"wrong type of list":  {"[sip]\nlisten = \"127.0.0.1:5060\"\n", "pronto.toml:2: sip.listen: the value is of the wrong kind"},
		"url that is none":    {"[http]\npublic_url = \"assistenza\"\n", "http.public_url"},
		"not toml":            {"data = \n", "pronto.toml:1:"},
		"everywhere":          {"[sip]\nlisten = [\"0.0.0.0:5060\"]\n", "listens everywhere"},
		"no port":             {"[sip]\nlisten = [\"127.0.0.1\"]\n", "sip.listen"},
		"trunk without name":  {"[[sip.trunk]]\nnetworks = [\"192.0.2.1\"]\n", "a name of its own"},
		"trunk by hostname":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"sip.example.org\"]\n", "not a network"},
		"target, no caller":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1:5060\"\n", "caller:"},
		"caller, no target":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ncaller = \"+390551234567\"\n", "without target"},
		"user, no password":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1:5060\"\ncaller = \"+390551234567\"\nuser = \"u\"\n", "belong together"},
		"registers nowhere":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\nregister = \"0551234567\"\n", "without it nobody"},
		"account of two":      {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1:5060\"\ncaller = \"+390551234567\"\nregister = \"a@b\"\n", "register: at most"},
		"half a name":         {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"carrier\"\ncaller = \"+390551234567\"\n", "nor a name"},
		"name and no port":    {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"sip.carrier.example:0\"\ncaller = \"+390551234567\"\n", "nor a name"},
		"address and no port": {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1\"\ncaller = \"+390551234567\"\n", "nor a name"},
		"standby is target":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1:5060\"\nstandby = [\"192.0.2.1:5060\"]\ncaller = \"+390551234567\"\n", "standby:"},
		"no time to ring":     {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1:5060\"\nstandby = [\"192.0.2.2:5060\"]\nprogress = \"1s\"\ncaller = \"+390551234567\"\n", "progress:"},
		"TLS, no pair":        {"[sip]\ntls_listen = [\"127.0.0.1:5061\"]\n", "belong together"},
		"TLS everywhere":      {"[sip]\ntls_listen = [\"0.0.0.0:5061\"]\n", "sip.tls_listen"},
		"transport of none":   {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntransport = \"sctp\"\n", "none of udp, tcp, tls"},
		"TLS one way":         {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntransport = \"tls\"\nserver_name = \"a.example\"\n", "sip.tls_listen is needed"},
		"nobody's name":       {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntransport = \"tls\"\n", "server_name:"},
		"keys in clear":       {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\nsrtp = \"required\"\n", "read the keys"},
		"srtp perhaps":        {"[sip]\nsrtp = \"perhaps\"\n", "none of off, offer, required"},
		"name of no TLS":      {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\nserver_name = \"sip.example.org\"\n", `for transport = "tls"`},
		"trunk's roots":       {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntransport = \"tls\"\nserver_name = \"a.example\"\nroots = \"none.pem\"\n", "roots:"},
		"lines below none":    {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\nlines = -1\n", "lines: -1"},
		"identity of nobody":  {"[[sip.trunk]]\nname = \"a\"\nnetworks = [\"192.0.2.1\"]\ntarget = \"192.0.2.1:5060\"\ncaller = \"+390551234567\"\nidentity = \"both\"\n", "none of from, asserted"},
		"prefix in words":     {"[sip]\ndial_prefixes = [\"Italia\"]\n", "sip.dial_prefixes"},
		"who dials freely":    {"[sip]\ntransfer_out = \"tutti\"\n", "sip.transfer_out"},
		"ports backwards":     {"[rtp]\nports = \"24999-20000\"\n", "rtp.ports"},
		"one port":            {"[rtp]\nports = \"20000-20000\"\n", "rtp.ports"},
		"a port that is none": {"[http]\nlisten = \"127.0.0.1:99999\"\n", "not an address and a port"},
		"console in clear":    {"[http]\nlisten = \"192.0.2.1:8080\"\n", "in clear"},
		"clear by a proxy":    {"[http]\nlisten = \"192.0.2.1:8080\"\npublic_url = \"https://a.example\"\n", "http.proxies"},
		"half a pair":         {"[http]\ncertificate = \"a.pem\"\npublic_url = \"https://a.example\"\n", "belong together"},
		"no public address":   {"[http]\ncertificate = \"a.pem\"\nkey = \"b.pem\"\n", "http.public_url"},
		"two certificates":    {"[http]\ncertificate = \"a.pem\"\nkey = \"b.pem\"\n[http.acme]\ndomains = [\"a.example\"]\n", "http.acme"},
		"name of a machine":   {"[http.acme]\ndomains = [\"desk\"]\n", "http.acme.domains"},
		"authority in clear":  {"[http.acme]\ndomains = [\"a.example\"]\ndirectory = \"http://ca.example\"\n", "http.acme.directory"},
		"roots that are none": {"[http.acme]\ndomains = [\"a.example\"]\nroots = \"none.pem\"\n", "http.acme.roots"},
		"redirect to nothing": {"[http]\nredirect = \"192.0.2.1:80\"\n", "http.redirect"},
		"proxy by name":       {"[http]\nproxies = [\"front\"]\n", "http.proxies"},
		"nobody could hear":   {"[recordings]\nrecipients = [\"age1x\"]\n", "recordings: recipients without identities"},
		"half encrypted":      {"[recordings]\nidentities = \"a.key\"\n", "recordings: identities without recipients"},
		"no public key":       {"[recordings]\nrecipients = [\"AGE-SECRET-KEY-1\"]\nidentities = \"a.key\"\n", "number 1 is not a public key"},
		"endless shutdown":    {"[shutdown]\ngrace = \"9999h\"\n", "shutdown.grace"},
		"level that is not":   {"[log]\nlevel = \"loud\"\n", "log.level"},
		"quote in realm":      {"[sip]\nrealm = \"a\\\"b\"\n", "sip.realm"},
		"two faults, one run": {"[log]\nlevel = \"loud\"\nformat = \"xml\"\n", "log.format"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pronto.toml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := loadConfig(path)
			if err == nil {
				_, err = cfg.check()
			}
			if !errors.Is(err, errConfig) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a configuration fault that says %q", err, c.want)
			}
		})
	}
}

// TestConfigDefaults shows that the empty file is a whole configuration, and
// that a relative data directory belongs to the file.
func TestConfigDefaults(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pronto.toml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cfg.check()
	if err != nil {
		t.Fatal(err)
	}
	if s.data != filepath.Join(dir, "data") || s.minPort != 20000 || s.maxPort != 24999 || len(s.sip) != 1 || s.grace != graceDefault {
		t.Fatalf("unexpected defaults: %+v", s)
	}
}

// FuzzConfig: whatever the file holds, the answer is settings or a fault.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("[sip]\nlisten = [\"[::1]:5060\"]\n[[sip.trunk]]\nname=\"x\"\nnetworks=[\"::1\"]\n"))
	f.Add([]byte("a = [[[[[[[[1]]]]]]]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := defaults()
		if err := parseConfig(text, "f.toml", &c); err != nil {
			return
		}
		if s, err := c.check(); err == nil && (len(s.sip) == 0 || s.maxPort <= s.minPort) {
			t.Fatalf("accepted without an address or ports: %+v", s)
		}
	})
}

// TestMenuLine: also a key that leads to no topic leads somewhere.
func TestMenuLine(t *testing.T) {
	for want, item := range map[string]tickets.MenuItem{
		"1  Cartella clinica (software)": {Key: '1', Topic: tickets.Topic{Code: "software", Name: "Cartella clinica"}},
		"5  the state of a request":      {Key: '5', Action: tickets.ActionState},
	} {
		if line := menuLine(item); line != want {
			t.Errorf("the line is %q, want %q", line, want)
		}
	}
}
