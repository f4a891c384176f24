package keeper_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// The user may start no more processes: the restart fails, with the step, and
// nothing else does.
func TestNoProcesses(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	if os.Getuid() == 0 { // whom the limit does not bind
		const user = 54321
		program, err := os.ReadFile(k.path)
		if err != nil {
			t.Fatal(err)
		}
		k.path = filepath.Join(k.dir, "program")
		if err := os.WriteFile(k.path, program, 0o700); err != nil {
			t.Fatal(err)
		}
		k.as = &syscall.Credential{Uid: user, Gid: user}
		k.behave(behaviour{})
		for _, path := range []string{k.dir, k.path, filepath.Join(k.dir, "behaviour")} {
			if err := os.Chown(path, user, user); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.start(behaviour{})
	k.alone()
	for range 5 { // so that it has the threads that it needs
		k.restart()
	}
	k.alone()
	before := k.fds()
	var old unix.Rlimit
	if err := unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1, Max: unix.RLIM_INFINITY}, &old); err != nil {
		t.Fatal(err)
	}
	err := keeper.AskRestart(t.Context(), k.dir)
	if err == nil || !strings.Contains(err.Error(), "start "+k.path) {
		t.Errorf("restart: %v", err)
	}
	k.serves(6)
	if err := unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_NPROC, &old, nil); err != nil {
		t.Fatal(err)
	}
	k.sane(before)
}
