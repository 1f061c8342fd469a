#!/bin/sh
# make.sh makes every sound under it/ from the table it.tsv (name, a tab, the words
# spoken) and from sounds.go (music and tone). Run it in its folder after a change;
# what it makes is committed, so that only who changes the words needs the voices:
#
#   apt-get install festival festvox-italp16k sox
#
# For each name it writes NAME.al, raw A-law at 8 kHz, and NAME.txt, the words. The
# same input gives the same octets. The voice is a placeholder that a customer
# replaces with a speaker's.
set -eu
export LC_ALL=C.UTF-8
cd "$(dirname "$0")"

LEVEL=-18.5 # dBFS RMS before the peaks bend and the air is added, which leave about -20
HEADROOM=-1  # dBFS: no sample comes closer to the limit, so nothing is clipped
STRETCH=1.04 # a little slower than the voice likes, for a bad line
SLOW=1.25    # for single words: a caller writes numbers down

for tool in festival sox soxi go iconv awk; do
	command -v $tool >/dev/null || { echo "make.sh: $tool is missing: apt-get install festival festvox-italp16k sox" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One run of festival says everything. It reads Latin-1.
{
	echo "(voice_lp_diphone)"
	cat quiet.scm
	awk -F'\t' -v dir="$work" -v sentence=$STRETCH -v word=$SLOW '{
		printf "(Parameter.set (quote Duration_Stretch) %s)\n", ($2 ~ / / ? sentence : word)
		printf "(utt.save.wave (SynthText \"%s\") \"%s/%s.wav\" (quote riff))\n", $2, dir, $1
	}' it.tsv
} | iconv -f UTF-8 -t ISO-8859-1 >"$work/say.scm"
festival --batch "$work/say.scm"

rm -rf it
mkdir it
tab=$(printf '\t')
while IFS=$tab read -r name text; do
	# Without the silence that the voice leaves on both sides.
	sox -D "$work/$name.wav" "$work/trim.wav" \
		silence 1 0.01 0.15% reverse silence 1 0.01 0.15% reverse
	# To the band of a telephone, with the consonants lifted a little. This voice has
	# its S above 5 kHz, where a telephone has nothing ("sei" became "ei"): what is up
	# there is moved down by 4 kHz (by modulation) and mixed in.
	sox -D "$work/trim.wav" "$work/hiss.wav" sinc 5200 synth sine amod 4000 sinc 1600-3700 rate -h 8000 gain 10
	sox -D "$work/trim.wav" "$work/voice.wav" highpass 200 highpass 200 equalizer 2600 1.2q 4 rate -h 8000
	sox -D -m -v 1 "$work/voice.wav" -v 1 "$work/hiss.wav" "$work/dry.wav"
	rms=$(sox "$work/dry.wav" -n stats 2>&1 | awk '/^RMS lev dB/ { print $4 }')
	gain=$(awk -v want=$LEVEL -v room=$HEADROOM -v is="$rms" 'BEGIN { print want - room - is }')
	# The peaks bend instead of breaking; then air on both sides, soft edges, and
	# whole frames of 20 ms, so that joined clips stay on the grid.
	sox -D "$work/dry.wav" "$work/loud.wav" gain -l "$gain" pad 0.02 0.06
	samples=$(soxi -s "$work/loud.wav")
	fill=$(((160 - samples % 160) % 160))
	sox -D "$work/loud.wav" -t al "it/$name.al" gain $HEADROOM pad 0 "${fill}s" fade t 0.015 0 0.03
	printf '%s\n' "$text" >"it/$name.txt"
done <it.tsv

go run sounds.go it
ls it/*.al | wc -l
du -cb it/*.al | tail -1
