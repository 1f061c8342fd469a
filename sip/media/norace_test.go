//go:build !race

package media

const forgetful = 0
