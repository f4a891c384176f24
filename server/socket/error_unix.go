//go:build !windows

package socket

import "syscall"

const (
	errAddrInUse    = syscall.EADDRINUSE
	errAddrNotAvail = syscall.EADDRNOTAVAIL
	errAccess       = syscall.EACCES
	errConnRefused  = syscall.ECONNREFUSED

	portHint = "use a port from 1024 up, or allow it: " +
		"setcap cap_net_bind_service=+ep on the program, or sysctl net.ipv4.ip_unprivileged_port_start"
)
