package web

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
)

// tone is a WAV file of so many seconds.
func tone(seconds int) []byte {
	var file bytes.Buffer
	_ = audio.WriteWAV(&file, audio.Tone(400, seconds*1000, -20)) // a buffer takes all
	return file.Bytes()
}

// sound puts a file in the place of a prompt.
func (p *person) sound(path string, file []byte) reply {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set("Content-Type", "audio/wav")
	defer p.header.Del("Content-Type")
	return p.ask(http.MethodPut, path, string(file))
}

// TestPromptsByTheAPI: supervisors list, hear, replace and restore; a file that is
// no good changes nothing.
func TestPromptsByTheAPI(t *testing.T) {
	d := newDesk(t)
	anna, carla := d.browser("anna"), d.browser("carla")
	const at = "/api/v1/prompts"
	anna.get(at).problem(t, http.StatusForbidden)
	anna.get(at+"/benvenuto/sound").problem(t, http.StatusForbidden)
	anna.sound(at+"/benvenuto?text=Salve", tone(1)).problem(t, http.StatusForbidden)

	one := func() prompts.Prompt {
		t.Helper()
		all := decoded[list[prompts.Prompt]](t, carla.get(at).want(t, http.StatusOK).body).Items
		i := slices.IndexFunc(all, func(p prompts.Prompt) bool { return p.Name == "benvenuto" })
		if i < 0 {
			t.Fatalf("%d prompts, and none is benvenuto", len(all))
		}
		return all[i]
	}
	own := one()
	if own.Replaced || own.Text != own.Original || own.At != nil || own.LengthMS == 0 {
		t.Errorf("at first: %+v", own)
	}
	for _, c := range []struct {
		path, field string
		file        []byte
		status      int
	}{
		{"/benvenuto?text=Salve", "file", []byte("ID3"), http.StatusUnprocessableEntity},
		{"/benvenuto?text=Salve", "file", nil, http.StatusUnprocessableEntity},
		{"/benvenuto?text=Salve", "file", tone(181), http.StatusUnprocessableEntity},
		{"/benvenuto", "text", tone(1), http.StatusUnprocessableEntity},
		{"/Benvenuto?text=Salve", "name", tone(1), http.StatusUnprocessableEntity},
		{"/benvenuto?text=Salve", "", make([]byte, prompts.LargestFile+1), http.StatusRequestEntityTooLarge},
	} {
		if p := carla.sound(at+c.path, c.file).problem(t, c.status); p.Field != c.field {
			t.Errorf("%s with %d octets: %+v", c.path, len(c.file), p)
		}
	}
	carla.ask(http.MethodPut, at+"/benvenuto?text=Salve", map[string]any{}).problem(t, http.StatusUnsupportedMediaType)
	if now := one(); now != own {
		t.Errorf("after refusals: %+v", now)
	}

	put := decoded[prompts.Prompt](t, carla.sound(at+"/benvenuto?text=Salve.", tone(2)).want(t, http.StatusOK).body)
	if now := one(); !now.Replaced || now.Text != "Salve." || now.Original != own.Text || now.LengthMS != 2000 || now.By == "" || put.Name != "benvenuto" {
		t.Errorf("replaced: %+v", now)
	}
	if got := carla.get(at+"/benvenuto/sound").want(t, http.StatusOK); got.body != string(tone(2)) || got.Header.Get("Content-Type") != "audio/wav" {
		t.Errorf("the new one has %d octets of %s", len(got.body), got.Header.Get("Content-Type"))
	}
	if sound, err := audio.ReadWAV(strings.NewReader(carla.get(at+"/benvenuto/sound?original=true").want(t, http.StatusOK).body)); err != nil || !bytes.Equal(sound, prompts.Italian().Clip("benvenuto").ALaw) {
		t.Errorf("the program's own: %v", err)
	}
	carla.get(at+"/non_c_e/sound").problem(t, http.StatusNotFound)

	carla.ask(http.MethodDelete, at+"/benvenuto", nil).want(t, http.StatusNoContent)
	carla.ask(http.MethodDelete, at+"/benvenuto", nil).problem(t, http.StatusConflict)
	carla.ask(http.MethodDelete, at+"/non_c_e", nil).problem(t, http.StatusNotFound)
	if now := one(); now != own {
		t.Errorf("restored: %+v", now)
	}
}
