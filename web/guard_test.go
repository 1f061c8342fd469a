package web

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestHeadersAreOnEveryAnswer(t *testing.T) {
	d := newDesk(t)
	anna, stranger := d.browser("anna"), &person{d: d, header: http.Header{}}
	for _, r := range []reply{
		stranger.get("/signin"), stranger.get("/"), stranger.get("/api/v1/me"), stranger.get("/api/v1/nothing"), stranger.get("/healthz"),
		stranger.get("/pages/pages.css"), stranger.get("/pages/nothing.css"), stranger.get("/assets/console.js"), stranger.get("/assets/nothing.js"),
		anna.get("/"), anna.get("/tickets/2026-1"), anna.get("/api/v1/me"), anna.get("/nothing.png"), stranger.ask(http.MethodDelete, "/signin", nil),
	} {
		policy := r.Header.Get("Content-Security-Policy")
		for part, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
		} {
			if got := r.Header.Get(part); got != want {
				t.Errorf("%s %s: %s is %q", r.Request.Method, r.Request.URL.Path, part, got)
			}
		}
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", r.Request.URL.Path, policy)
		}
	}
	// What the policy forbids must not be on our own pages.
	inline := regexp.MustCompile(`(?i)<script(?:>|[^>]*>[^<])|<style|\sstyle=|\son[a-z]+=|javascript:`)
	for _, path := range []string{"/signin", "/nothing.png"} {
		if found := inline.FindString(anna.get(path).body + stranger.get(path).body); found != "" {
			t.Errorf("%s has %q inline", path, found)
		}
	}
}

func TestRequestsOfOtherSitesAreRefused(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.PublicURL = "http://assistenza.example.it:8443" })
	const path = "/api/v1/operators/anna/state"
	body := map[string]string{"declared": "off"}
	for name, c := range map[string]struct {
		header http.Header
		want   int
	}{
		"our page":              {http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusOK},
		"an old browser":        {http.Header{"Origin": {d.http.URL}}, http.StatusOK},
		"behind a proxy":        {http.Header{"Origin": {"http://assistenza.example.it:8443"}}, http.StatusOK},
		"another site":          {http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}}, http.StatusForbidden},
		"a sister site":         {http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		"another site, old":     {http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		"a hidden origin":       {http.Header{"Origin": {"null"}}, http.StatusForbidden},
		"no browser, no origin": {http.Header{}, http.StatusForbidden},
	} {
		anna := d.browser("anna")
		anna.header = c.header
		if got := anna.ask(http.MethodPut, path, body); got.StatusCode != c.want {
			t.Errorf("%s with a cookie: %d, want %d: %s", name, got.StatusCode, c.want, got.body)
		}
	}
	d.bearer("anna").ask(http.MethodPut, path, body).want(t, http.StatusOK)
	d.signIn("anna", testPassword, nil, http.Header{"Sec-Fetch-Site": {"cross-site"}}).problem(t, http.StatusForbidden)

	anna := d.browser("anna")
	anna.header = http.Header{"Sec-Fetch-Site": {"cross-site"}}
	anna.ask(http.MethodPost, "/signout", nil).problem(t, http.StatusForbidden)
	anna.get("/api/v1/me").want(t, http.StatusOK) // reading is no harm: the answer stays unread
}

func TestAPanicIsOneRequest(t *testing.T) {
	d := newDesk(t)
	d.router.Get("/api/v1/boom", func(http.ResponseWriter, *http.Request) { panic("kaputt") })
	anna := d.browser("anna")
	if p := anna.get("/api/v1/boom").problem(t, http.StatusInternalServerError); strings.Contains(p.Detail, "kaputt") {
		t.Errorf("a panic is told: %s", p.Detail)
	}
	if !strings.Contains(d.log.String(), "kaputt") {
		t.Errorf("a panic is not logged: %s", d.log)
	}
	anna.get("/api/v1/me").want(t, http.StatusOK)
}

func TestADrippingBodyIsCut(t *testing.T) {
	short := bodyTimes{read: 100 * time.Millisecond, write: time.Second, work: time.Second}
	read := make(chan error, 1)
	server := httptest.NewServer(short.bounded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	})))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	must(t, err)
	select {
	case err := <-read:
		if err == nil {
			t.Errorf("half a body was taken for a whole one")
		}
	case <-time.After(testWait):
		t.Errorf("a dripping body is waited for")
	}
}

func TestOneSessionCannotFloodTheDesk(t *testing.T) {
	d := newDesk(t)
	anna := d.browser("anna")
	for i := range requestsPerSession {
		if r := anna.get("/api/v1/me"); r.StatusCode != http.StatusOK {
			r.problem(t, http.StatusTooManyRequests)
			t.Fatalf("limited after %d requests", i)
		}
	}
	if got := anna.get("/api/v1/me").want(t, http.StatusTooManyRequests).Header.Get("Retry-After"); got == "" {
		t.Errorf("the limit does not say when to come back")
	}
	d.browser("bruno").get("/api/v1/me").want(t, http.StatusOK)
}

func TestAssets(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{"Accept-Encoding": {"identity"}}}
	css := stranger.get("/pages/pages.css").want(t, http.StatusOK)
	if kind := css.Header.Get("Content-Type"); kind != "text/css; charset=utf-8" || css.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("a sheet comes as %q, %q", kind, css.Header.Get("Cache-Control"))
	}
	tag := css.Header.Get("ETag")
	again := &person{d: d, header: http.Header{"Accept-Encoding": {"identity"}, "If-None-Match": {tag}}}
	if r := again.get("/pages/pages.css").want(t, http.StatusNotModified); r.body != "" {
		t.Errorf("a 304 has a body")
	}
	zipped := &person{d: d, header: http.Header{"Accept-Encoding": {"br;q=1, gzip"}}}
	if r := zipped.get("/pages/pages.css").want(t, http.StatusOK); r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("ETag") == tag || len(r.body) >= len(css.body) {
		t.Errorf("gzip: %q, tag %s, %d of %d bytes", r.Header.Get("Content-Encoding"), r.Header.Get("ETag"), len(r.body), len(css.body))
	}
	unzipped := &person{d: d, header: http.Header{"Accept-Encoding": {"gzip;q=0"}}}
	if r := unzipped.get("/pages/pages.css"); r.Header.Get("Content-Encoding") != "" {
		t.Errorf("gzip is sent to who refuses it")
	}
	for path, want := range map[string]int{
		"/pages/page.html": http.StatusNotFound, "/pages/..%2fserver.go": http.StatusNotFound, "/assets/": http.StatusNotFound,
		"/assets/../index.html": http.StatusNotFound, "/favicon.ico": http.StatusNotFound, "/pages/pronto.svg": http.StatusOK,
	} {
		stranger.get(path).want(t, want)
	}
	d.browser("anna").ask(http.MethodPost, "/nowhere", nil).problem(t, http.StatusMethodNotAllowed)
}
