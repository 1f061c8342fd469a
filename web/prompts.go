package web

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
)

// uploadLongest is for a file of a prompt: 20 MB from a slow office, and to bring
// it to the telephone's rate.
const uploadLongest = 2 * time.Minute

// promptsAPI is what callers hear: all prompts of the library, to listen to and
// to replace.
func (s *Server) promptsAPI(a *operations) {
	provide(a, operation{at: "GET /prompts", id: "listPrompts", does: "What callers hear, every prompt by name.", by: supervisors},
		func(ctx context.Context, _ User, _ *nothing) (list[prompts.Prompt], error) {
			return listed(s.Prompts.List(ctx))
		})
	provide(a, operation{at: "PUT /prompts/{name}", id: "putPrompt", does: "Makes callers hear a WAV file in the place of a prompt, or adds one of a new name; the next one to be played is the new one.",
		by: supervisors, scope: Manage, kind: "audio/wav", most: prompts.LargestFile, takes: uploadLongest}, s.putPrompt)
	provide(a, operation{at: "DELETE /prompts/{name}", id: "restorePrompt", does: "Goes back to the prompt that comes with the program; one of a name of one's own is gone.", by: supervisors, scope: Manage},
		func(ctx context.Context, me User, in *PromptPath) (nothing, error) {
			return nothing{}, s.Prompts.Remove(ctx, in.Name, me.ID, s.Now())
		})
}

// PromptPath is the input of an operation on a prompt.
type PromptPath struct {
	Name string `path:"name" maxLength:"64" doc:"Such as benvenuto; menu_ and a topic's code names the topic in menus."`
}

type promptInput struct {
	PromptPath
	Text    string `query:"text" maxLength:"1000" doc:"What is said in it, word by word."`
	RawBody []byte `contentType:"audio/wav"`
}

func (s *Server) putPrompt(ctx context.Context, me User, in *promptInput) (prompts.Prompt, error) {
	return s.Prompts.Put(ctx, in.Name, in.Text, in.RawBody, me.ID, s.Now())
}

// getPromptSound plays a prompt (WAV, with ranges).
func (s *Server) getPromptSound(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(supervisors, whoAsks(r).Role) {
		s.fail(w, r, errRole)
		return
	}
	name := chi.URLParam(r, "name")
	if !readable(name) {
		s.fail(w, r, errNotFound)
		return
	}
	clip, at, err := s.Prompts.Sound(r.Context(), name, r.URL.Query().Get("original") == "true")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var file bytes.Buffer
	if err := audio.WriteWAV(&file, clip.ALaw); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "audio/wav")
	w.Header().Set("Cache-Control", "private, no-store")
	http.ServeContent(w, r, "", at, bytes.NewReader(file.Bytes()))
}
