//go:build !unix

package main

// maxOpenFiles is unknown here.
func maxOpenFiles() (uint64, bool) { return 0, false }
