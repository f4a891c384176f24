//go:build unix

package keeper

import (
	"os"
	"syscall"
)

func otherSignals() []os.Signal {
	return []os.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR2}
}
