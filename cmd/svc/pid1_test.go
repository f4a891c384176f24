//go:build linux

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// needReal skips a test that this machine lacks something for. Where everything
// must be there (REQUIRE_REAL=1) it fails.
func needReal(t *testing.T, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("REQUIRE_REAL") != "":
		t.Fatalf("this needs %s", what)
	default:
		t.Skipf("this needs %s", what)
	}
}

// TestPID1 runs the service as the first process of a PID namespace, as in a
// container: what is orphaned there becomes its child.
func TestPID1(t *testing.T) {
	t.Parallel()
	needReal(t, os.Geteuid() == 0, "root, for a PID namespace")
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	// The shell that becomes the service leaves children behind that it knows
	// nothing of.
	r := f.launchPID1("for i in 1 2 3; do sleep 0.$i & done; (sleep 0.5 &)")
	r.up()
	if st := r.status(); st.KeeperPID != 1 {
		t.Fatalf("the keeper is process %d of its namespace", st.KeeperPID)
	}
	r.noZombies("after the start")

	// Orphans while it runs: the shell ends before what it has started.
	orphans := exec.CommandContext(t.Context(), "nsenter", "--target", strconv.Itoa(r.cmd.Process.Pid), "--pid",
		"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.$i & sleep 30 & true) >/dev/null 2>&1; done")
	if out, err := orphans.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.until("orphans", func() bool { return len(r.workers()) > 9 })
	r.until("the end of the short ones", func() bool { return len(r.workers()) == 1+9 })
	r.noZombies("after orphans")

	for range 5 {
		f.svc("restart").want(t, 0, "restarted")
	}
	r.noZombies("after restarts")
	for _, signal := range []syscall.Signal{unix.SIGKILL, unix.SIGSEGV, unix.SIGABRT} {
		before := r.status().Generation
		if err := unix.Kill(r.worker(), signal); err != nil {
			t.Fatal(err)
		}
		r.until("a successor", func() bool { st := r.status(); return st.Generation > before && st.Healthy })
		if code, _ := r.get("/v1/config"); code != http.StatusOK {
			t.Errorf("answers with %d after %v", code, signal)
		}
	}
	r.noZombies("after crashes")

	inside := r.workers() // and the orphans that still sleep
	r.signal(unix.SIGTERM)
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d\n%s", code, r.log)
	}
	if left := slices.DeleteFunc(inside, func(pid int) bool { return !lives(t, pid) }); len(left) > 0 {
		t.Errorf("processes %v outlive the service", left)
	}
}

// TestPID1Killed: the kernel ends all processes of a namespace with its first
// one, and the next start finds nothing in its way.
func TestPID1Killed(t *testing.T) {
	t.Parallel()
	needReal(t, os.Geteuid() == 0, "root, for a PID namespace")
	f := newFolder(t, "server: {listen: ['"+freeAddress(t)+"']}\n")
	r := f.launchPID1(":")
	r.up()
	f.svc("restart").want(t, 0, "restarted")
	workers := r.workers()
	r.signal(unix.SIGKILL)
	r.exited()
	if left := slices.DeleteFunc(workers, func(pid int) bool { return !lives(t, pid) }); len(left) > 0 {
		t.Errorf("processes %v outlive the service", left)
	}
	r = f.launchPID1(":")
	r.up()
	if code, _ := r.get("/v1/config"); code != http.StatusOK {
		t.Errorf("answers with %d", code)
	}
	r.signal(unix.SIGTERM)
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d\n%s", code, r.log)
	}
}

// launchPID1 is launch in a PID namespace.
func (f *folder) launchPID1(before string) *running {
	f.t.Helper()
	cmd := f.shell(before, os.Args[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	return f.launched(cmd)
}

// worker is the process of the generation that serves, where it is the only one
// of this program.
func (r *running) worker() int {
	r.t.Helper()
	var found []int
	r.until("one worker", func() bool {
		found = slices.DeleteFunc(r.workers(), func(pid int) bool {
			program, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
			return err != nil || program != programOf(r.t)
		})
		return len(found) == 1
	})
	return found[0]
}

func programOf(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// noZombies waits until no child of the keeper has ended without being reaped:
// one may just have ended.
func (r *running) noZombies(when string) {
	r.t.Helper()
	r.until("no zombies "+when, func() bool {
		for p := range processes(r.t) {
			if p.parent == r.cmd.Process.Pid && p.state == "Z" {
				return false
			}
		}
		return true
	})
}

// workers are the children of the keeper: its workers, and as the first process
// of a namespace what was orphaned there.
func (r *running) workers() []int {
	r.t.Helper()
	return children(r.t, r.cmd.Process.Pid)
}

// children are the processes whose parent is pid, zombies too.
func children(t testing.TB, pid int) []int {
	t.Helper()
	var found []int
	for child := range processes(t) {
		if child.parent == pid {
			found = append(found, child.pid)
		}
	}
	return found
}

// lives reports whether a process runs: the parent of an orphan may take its
// time to reap it.
func lives(t testing.TB, pid int) bool {
	t.Helper()
	for p := range processes(t) {
		if p.pid == pid {
			return p.state != "Z"
		}
	}
	return false
}

type process struct {
	pid, parent int
	state       string
}

// processes are all of this machine, threads not.
func processes(t testing.TB) func(func(process) bool) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(process) bool) {
		for _, path := range stats {
			data, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			// The name, in parentheses, may hold anything.
			fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			parent, _ := strconv.Atoi(fields[1])
			if !yield(process{pid, parent, fields[0]}) {
				return
			}
		}
	}
}
