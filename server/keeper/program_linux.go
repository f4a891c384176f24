package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is what a generation is started from, as it was when the keeper was
// started: only the file itself is looked up anew each time.
type program struct {
	path string
	args []string
	env  []string
}

// The descriptors of a worker beside stdin, stdout and stderr.
const (
	controlFD = 3
	crashFD   = 4
)

// ofManager are the variables of a service manager, which speak to the keeper
// alone (sd_notify(3), sd_listen_fds(3)).
var ofManager = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", workerMark} //nolint:gochecknoglobals // a list of names

// thisProgram finds the file that runs by the name it was started by, so that a
// replaced file, or a symbolic link that points elsewhere by then, is followed.
// The kernel's own link would say "(deleted)".
func thisProgram() (program, error) {
	self, err := os.Executable()
	if err != nil {
		return program{}, fmt.Errorf("find own program: %w", err)
	}
	p := program{path: self, args: slices.Clone(os.Args), env: []string{}}
	if named, err := exec.LookPath(os.Args[0]); err == nil {
		if named, err = filepath.Abs(named); err == nil && sameFile(named, self) {
			p.path = named
		}
	}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !slices.Contains(ofManager, name) {
			p.env = append(p.env, variable)
		}
	}
	p.env = append(p.env, workerMark+"=1")
	return p, nil
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a) //nolint:gosec // it is this program
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// start starts a process with its end of the control pair, and a memory file
// that the runtime writes a crash into. Both stay the caller's.
//
// It is in a process group of its own, so that a terminal's signals reach the
// keeper alone.
func (p program) start(control, crash int) (pid int, err error) {
	// A process begins with the signal mask of the thread that starts it, and the
	// runtime's threads have what the keeper was started with.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var none, before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, &before); err == nil {
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }() // it was the mask
	}
	pid, err = syscall.ForkExec( //nolint:gosec // it is this program again
		p.path, p.args, &syscall.ProcAttr{
			Env:   p.env,
			Files: []uintptr{0, 1, 2, uintptr(control), uintptr(crash)},
			Sys:   &syscall.SysProcAttr{Setpgid: true},
		})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", p.path, err)
	}
	return pid, nil
}

// newCrashFile makes the memory file for a crash.
func newCrashFile() (int, error) {
	fd, err := unix.MemfdCreate("svc-crash", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make memory file: %w", err)
	}
	return fd, nil
}

// maxCrash is how much of a crash's first lines is kept.
const maxCrash = 512

// readCrash says what the runtime wrote first when the process crashed, or "".
// What the program has panicked with may be a secret that it tripped over: it
// stays on stderr, with the goroutines.
func readCrash(fd int) string {
	buf := make([]byte, maxCrash)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil || n <= 0 {
		return ""
	}
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(buf[:n]), ""), "\n")
	for _, own := range []string{"panic: runtime error: ", "fatal error: ", "SIG"} { // the runtime's own words
		if strings.HasPrefix(line, own) {
			return line
		}
	}
	return "it panicked, see its stderr"
}

// exited is a child that has ended.
type exited struct {
	pid    int
	status syscall.WaitStatus
}

// reap collects every child that has ended, also those that were not ours: as
// the first process of a container the keeper inherits orphans.
func reap() []exited {
	var ended []exited
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || pid <= 0:
			return ended
		default:
			ended = append(ended, exited{pid, status})
		}
	}
}

// describe is the end of a process in words.
func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "was killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exited with code %d", status.ExitStatus())
}
