package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/recordings"
)

// TestDoorSaysWhyASoundCannotBeHad: another node can tell a key that is missing here
// from a file that is damaged, and both from none.
func TestDoorSaysWhyASoundCannotBeHad(t *testing.T) {
	for err, status := range map[error]int{
		recordings.ErrLocked:  http.StatusLocked,
		recordings.ErrDamaged: http.StatusInternalServerError,
		fs.ErrNotExist:        http.StatusNotFound,
		errors.New("away"):    http.StatusNotFound,
	} {
		mux := http.NewServeMux()
		mux.Handle("GET /talk/{contact}", sounds(func(context.Context, uuid.UUID) (io.ReadSeekCloser, time.Time, error) {
			return nil, time.Time{}, fmt.Errorf("talk: %w", err)
		}))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/talk/"+uuid.NewString(), nil))
		if w.Code != status {
			t.Errorf("%v: %d, want %d", err, w.Code, status)
		}
	}
}
