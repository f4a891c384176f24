//go:build !windows

package rivals

import (
	"fmt"
	"syscall"
	"time"
)

// processorTime is what this process has used so far, in user space and in the
// kernel.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("ask for the processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
