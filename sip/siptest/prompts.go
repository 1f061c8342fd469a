package siptest

import (
	"time"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
)

// Prompts are the Italian prompts, each made to spell its own name; the music
// loops, as it does.
func Prompts() map[string]audio.Clip {
	clips := map[string]audio.Clip{}
	for _, name := range prompts.Italian().Names() {
		clip := Spell(name, spelled)
		if name == prompts.Music {
			clip = Spell(name, 5*time.Second)
			clip.Loop = true
		}
		clips[name] = clip
	}
	return clips
}
