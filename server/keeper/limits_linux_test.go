package keeper_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// limitMark has this program set how many processes another one's user may have,
// and end: only a process of that user may do so everywhere.
const limitMark = "SVC_KEEPER_TEST_LIMIT"

func limitProcesses(text string) int {
	var pid int
	var n int64
	if _, err := fmt.Sscan(text, &pid, &n); err != nil {
		return 1
	}
	var limit unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_NPROC, nil, &limit)
	if limit.Cur = limit.Max; n >= 0 {
		limit.Cur = uint64(n)
	}
	if err == nil {
		err = unix.Prlimit(pid, unix.RLIMIT_NPROC, &limit, nil)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

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
	limit := func(n int64) {
		t.Helper()
		c := exec.CommandContext(t.Context(), k.path)
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", limitMark, k.cmd.Process.Pid, n))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: k.as}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("set limit: %v: %s", err, out)
		}
	}
	limit(1)
	err := keeper.AskRestart(t.Context(), k.dir)
	if err == nil || !strings.Contains(err.Error(), "start "+k.path) {
		t.Errorf("restart: %v", err)
	}
	k.serves(6)
	limit(-1)
	k.sane(before)
}

// The keeper has no descriptors left: restarts fail, with the step, and work
// when it has some; keeper.sock answers again.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	var old unix.Rlimit
	if err := unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, n := range before {
		open += n
	}
	for more := range 8 {
		tight := unix.Rlimit{Cur: uint64(open + more), Max: old.Max}
		if err := unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_NOFILE, &tight, nil); err != nil {
			t.Fatal(err)
		}
		k.signal(unix.SIGUSR2)
		asking, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_ = keeper.AskRestart(asking, k.dir)
		cancel()
		if _, err := k.get("/"); err != nil {
			t.Errorf("with %d descriptors more: %v", more, err)
		}
	}
	if err := unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(k.out.String(), "too many open files") {
		t.Error("it is not said that there are too few descriptors")
	}
	k.sane(before)
}
