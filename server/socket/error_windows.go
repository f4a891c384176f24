package socket

import "golang.org/x/sys/windows"

// Package syscall's errors of these names are made up on Windows; these are what
// the system answers.
const (
	errAddrInUse    = windows.WSAEADDRINUSE
	errAddrNotAvail = windows.WSAEADDRNOTAVAIL
	errAccess       = windows.WSAEACCES
	errConnRefused  = windows.WSAECONNREFUSED

	portHint = "another program may hold it for itself, or the system has reserved it " +
		"(netsh interface ipv4 show excludedportrange protocol=tcp); choose another"
)
