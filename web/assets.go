package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/web/ui"
)

//go:embed templates
var templates embed.FS

// asset is a file that is served as it is, from memory.
type asset struct {
	kind    string // Content-Type
	tag     string // ETag: files have no hash in their names, so browsers ask each time
	plain   []byte
	gzipped []byte // nil when it would not be much smaller
}

// assetsOf reads a file system once; both are embedded, so they cannot fail.
func assetsOf(fsys fs.FS) map[string]asset {
	found := map[string]asset{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		a := asset{kind: kindOf(name), tag: hex.EncodeToString(sum[:12]), plain: body}
		var small bytes.Buffer
		zip, _ := gzip.NewWriterLevel(&small, gzip.BestCompression)
		_, _ = zip.Write(body) // into memory: cannot fail
		_ = zip.Close()
		if small.Len() < len(body)*9/10 {
			a.gzipped = small.Bytes()
		}
		found[name] = a
		return nil
	})
	if err != nil {
		panic(err)
	}
	return found
}

// kindOf knows the types without asking the machine's own table.
func kindOf(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8" // RFC 9239
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".wav":
		return "audio/wav"
	case ".webmanifest":
		return "application/manifest+json"
	default:
		if kind := mime.TypeByExtension(ext); kind != "" {
			return kind
		}
		return "application/octet-stream"
	}
}

var (
	console   = sync.OnceValue(func() map[string]asset { return assetsOf(ui.Dist()) })
	ownAssets = sync.OnceValue(func() map[string]asset {
		sub, err := fs.Sub(templates, "templates")
		if err != nil {
			panic(err)
		}
		return assetsOf(sub)
	})
	expiredCookie = time.Time{} // scs: a zero expiry deletes the cookie
)

func serveAsset(w http.ResponseWriter, r *http.Request, a asset) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache") // ask again each time: 304 is cheap
	h.Set("Vary", "Accept-Encoding")
	body, tag := a.plain, a.tag
	if a.gzipped != nil && r.Header.Get("Range") == "" && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body, tag = a.gzipped, a.tag+"-gz"
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3) as far as browsers use it.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q := strings.ReplaceAll(weight, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// getConsoleFile serves what the console's page loads.
func (s *Server) getConsoleFile(w http.ResponseWriter, r *http.Request) {
	if a, ok := console()[strings.TrimPrefix(r.URL.Path, "/")]; ok {
		serveAsset(w, r, a)
		return
	}
	writeProblem(w, errNotFound)
}

// getPagesFile serves what the server-rendered pages load.
func (s *Server) getPagesFile(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if a, ok := ownAssets()[name]; ok && path.Ext(name) != ".html" {
		serveAsset(w, r, a)
		return
	}
	writeProblem(w, errNotFound)
}

// getConsole serves the console's page for every path that is nothing else: the
// console itself knows what its paths show. Who is not signed in signs in first.
func (s *Server) getConsole(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		writeProblem(w, errNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeProblem(w, problemf(http.StatusMethodNotAllowed, "Metodo non consentito."))
		return
	}
	if a, ok := console()[strings.TrimPrefix(r.URL.Path, "/")]; ok && r.URL.Path != "/index.html" { // favicon and the like
		serveAsset(w, r, a)
		return
	}
	if path.Ext(r.URL.Path) != "" {
		s.notice(w, errNotFound)
		return
	}
	if _, err := s.identify(r); err != nil {
		if p := asProblem(err); p.Status != http.StatusUnauthorized {
			s.notice(w, p)
			return
		}
		next := "/signin"
		if r.URL.Path != "/" || r.URL.RawQuery != "" {
			next += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
		}
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	serveAsset(w, r, console()["index.html"])
}
