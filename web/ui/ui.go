// Package ui carries the operators' console: the browser application that Vite
// builds from this folder's sources into dist. The build is committed, so that
// a machine with nothing but Go can make and run the product; `npm run
// check:dist` proves that it is the sources' build.
package ui

import (
	"embed"
	"io/fs"
)

// `all:` so that no file of the build is left out for its name.
//
//go:embed all:dist
var built embed.FS

// Dist returns the built console, rooted at its folder: index.html is the page,
// assets/ what it loads. Names carry no hashes: whoever serves them answers
// with an ETag and lets the browser ask again.
func Dist() fs.FS {
	dist, err := fs.Sub(built, "dist")
	if err != nil {
		panic(err) // only an invalid path fails, and "dist" is a constant
	}
	return dist
}
