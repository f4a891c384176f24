//go:build !windows

package rivals

import (
	"os"
	"syscall"
)

// restartSignal asks our keeper for a restart.
func restartSignal() os.Signal { return syscall.SIGUSR2 }
