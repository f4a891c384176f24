//go:build unix

package main

import "syscall"

// maxOpenFiles is how many files this process may have open.
func maxOpenFiles() (uint64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return limit.Cur, true
}
