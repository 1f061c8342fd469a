package siptest

import (
	"time"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
)

// Prompts are the Italian prompts, each made to spell its own name; music and
// tones loop, as they do.
func Prompts() map[string]audio.Clip {
	clips := map[string]audio.Clip{}
	italian := prompts.Italian()
	for _, name := range italian.Names() {
		clip := Spell(name, spelled)
		if italian.Clip(name).Loop {
			clip = Spell(name, 5*time.Second)
			clip.Loop = true
		}
		clips[name] = clip
	}
	return clips
}
