//go:build !linux && !darwin

package file

import "io/fs"

const openFlags = 0

func sightOf(info fs.FileInfo) sight {
	return sight{size: info.Size(), modified: info.ModTime().UnixNano()}
}

// traitsOf has nothing to ask here; the backstop finds what an event does not.
func traitsOf(string) traits { return traits{events: true, times: true} }
