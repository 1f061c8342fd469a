// Package seeds gives fuzz targets what other people's begin with. They are used
// from where they are: `make interop INTEROP=DIR` names the folder, and without it
// there are none.
package seeds

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Of returns the files of one folder of the material, at any depth.
func Of(f *testing.F, folder string) (list [][]byte) {
	f.Helper()
	dir := os.Getenv("PRONTO_INTEROP")
	if dir == "" {
		return nil
	}
	err := filepath.WalkDir(filepath.Join(dir, "fuzz", folder), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		list = append(list, b)
		return err
	})
	if err != nil || len(list) == 0 {
		f.Fatalf("no seeds in %s: %v", folder, err)
	}
	return list
}

// Packets takes a seed of RTP apart: each packet has its length before it, in two
// octets.
func Packets(seed []byte) (list [][]byte) {
	for len(seed) >= 2 {
		n := min(int(seed[0])<<8|int(seed[1]), len(seed)-2)
		list = append(list, seed[2:2+n])
		seed = seed[2+n:]
	}
	return list
}
