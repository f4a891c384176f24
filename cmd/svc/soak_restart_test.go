//go:build linux

package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/server/keeper"
)

// held is what the processes of a service hold.
type held struct {
	keeperFDs, keeperMemory, keeperGoroutines int // bytes
	workerFDs, workerMemory, workerGoroutines int
	state                                     []string // files in the state folder
	temporary                                 int      // files in the folder of temporary ones
}

// holds looks at the two processes when nothing else is left and probation is
// over.
func (r *running) holds() held {
	r.t.Helper()
	r.alone()
	r.eventually("the end of probation", func() bool { return r.known().Generations[0].State == keeper.StateServing })
	time.Sleep(200 * time.Millisecond) // the questions that were asked are over in the keeper too
	worker, self := r.serving(), r.cmd.Process.Pid
	h := held{
		keeperFDs: descriptors(r.t, self), keeperMemory: anonymous(r.t, self), keeperGoroutines: r.goroutines(self),
		workerFDs: descriptors(r.t, worker), workerMemory: anonymous(r.t, worker),
		workerGoroutines: int(r.metrics("go_goroutines")["go_goroutines"]),
	}
	for _, dir := range []string{r.path(".svc"), r.temporary()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			r.t.Fatal(err)
		}
		if dir == r.temporary() {
			h.temporary = len(entries)
			continue
		}
		for _, e := range entries {
			h.state = append(h.state, e.Name())
		}
	}
	return h
}

func (r *running) temporary() string { return r.path("tmp") }

func descriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// anonymous is the memory of a process that no file is behind.
func anonymous(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kilobytes, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("process %d does not tell its memory", pid)
	return 0
}

var goroutineBegin = regexp.MustCompile(`(?m)^goroutine \d+ \[`)

// goroutines counts those of a process in what it writes on SIGQUIT.
func (r *running) goroutines(pid int) int {
	r.t.Helper()
	title := fmt.Sprintf("goroutines of process %d:\n", pid)
	from := len(r.log.String())
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		r.t.Fatal(err)
	}
	var count int
	r.eventually("the goroutines", func() bool {
		_, text, found := strings.Cut(r.log.String()[from:], title)
		// The worker writes its own beside it, and it takes a moment for all to come.
		text, _, _ = strings.Cut(text, "goroutines of process ")
		before := count
		count = len(goroutineBegin.FindAllString(text, -1))
		return found && count > 0 && count == before
	})
	return count
}

// TestSoakRestarts restarts as fast as it can, and looks at what is left of it.
// With SOAK there are thousands.
func TestSoakRestarts(t *testing.T) {
	restarts := 300
	if os.Getenv("SOAK") != "" {
		restarts = 10_000
	}
	const warm = 30 // until then what is allocated once has been
	f := newFolder(t, "server: {listen: ['127.0.0.1:0', 'unix:socket']}\nlog: {level: warn}\n")
	if err := os.Mkdir(f.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.env = []string{"TMPDIR=" + f.path("tmp")}
	// Memory says little under the race detector: it is the program as users have it.
	r := f.launch(":", f.self)
	r.up()
	for range warm {
		r.restart()
	}
	before := r.holds()
	began := time.Now()
	for range restarts - warm {
		r.restart()
	}
	took := time.Since(began)
	after := r.holds()
	known := r.known()
	t.Logf("%d restarts in %v, %.1f a second, %.1f ms from trigger to accepting", restarts-warm, took,
		float64(restarts-warm)/took.Seconds(), 1000*known.RestartSeconds/float64(known.Restarts))
	t.Logf("before %+v", before)
	t.Logf("after  %+v", after)
	if known.Restarts != uint64(restarts) || known.Failed != 0 || known.KeeperPID != r.cmd.Process.Pid {
		t.Errorf("%d restarts, %d failed, want %d; keeper %d", known.Restarts, known.Failed, restarts, known.KeeperPID)
	}
	const slack = 16 << 20 // a garbage collection, and how the kernel counts pages
	for _, c := range []struct {
		name                 string
		before, after, slack int
	}{
		{"descriptors of the keeper", before.keeperFDs, after.keeperFDs, 2},
		{"descriptors of the worker", before.workerFDs, after.workerFDs, 2},
		{"goroutines of the keeper", before.keeperGoroutines, after.keeperGoroutines, 2},
		{"goroutines of the worker", before.workerGoroutines, after.workerGoroutines, 5},
		{"memory of the keeper", before.keeperMemory, after.keeperMemory, slack},
		{"memory of the worker", before.workerMemory, after.workerMemory, slack},
		{"temporary files", before.temporary, after.temporary, 0},
	} {
		if c.before <= 0 && c.name != "temporary files" || c.after > c.before+c.slack {
			t.Errorf("%s: %d, and %d after the restarts", c.name, c.before, c.after)
		}
	}
	if !slices.Equal(before.state, after.state) {
		t.Errorf("the state folder: %v, and %v after the restarts", before.state, after.state)
	}
	r.noZombies("after the restarts")
	if code, _ := r.get("/v1/config"); code != 200 {
		t.Errorf("answers with %d", code)
	}
	r.stopped()
}
