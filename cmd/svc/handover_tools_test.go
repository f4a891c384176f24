//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server/keeper"
)

// folderMark is a variable by which the processes of one folder are found.
const folderMark = "TEST_FOLDER_MARK"

// subject is a service that bad things happen to.
type subject struct {
	*running
	t       *testing.T
	program string // what is run: the test itself, unless it is a copy
	workIn  string // where; "" is the folder
}

// newSubject is a folder to run it in.
func newSubject(t *testing.T, config string) *subject {
	t.Helper()
	f := newFolder(t, config)
	f.env = []string{folderMark + "=" + f.dir}
	return &subject{&running{folder: f}, t, os.Args[0], ""}
}

// launchOnly starts the service with what it writes in a file, so that the end of a
// killed keeper is seen before that of its workers.
func (s *subject) launchOnly() {
	s.t.Helper()
	log, err := os.OpenFile(s.path("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	r := &running{folder: s.folder, cmd: s.command("run"), log: &lockedBuffer{}, done: make(chan struct{})}
	r.cmd.Path = s.program
	r.cmd.Args[0] = s.program
	if s.workIn != "" {
		r.cmd.Dir = s.workIn
	}
	r.cmd.Env = append(r.cmd.Env, runAsMain+"=1")
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	s.running = r
	s.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
		if text := s.logged(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			s.t.Errorf("the service's log: %s", text)
		}
	})
}

// run starts the service, also once more after its end, and waits for it.
func (s *subject) run() {
	s.t.Helper()
	s.launchOnly()
	if got := s.svc("status", "--wait", "--timeout", "15s"); got.code != 0 {
		s.t.Fatalf("the service did not start: %s\n%s", got.stderr, s.logged())
	}
	s.url = "http://" + s.status().Listeners[0]
}

// logged is the last of what the service has written.
func (s *subject) logged() string {
	s.t.Helper()
	data, err := os.ReadFile(s.path("log"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data[max(0, len(data)-64<<10):])
}

// moving is a config with an address that stays and one that changes.
func moving(first, second string, n int) string {
	return fmt.Sprintf("server: {listen: ['%s', '%s']}\npublic: {n: %d}\n", first, second, n)
}

// eventually waits longer than until does: some of what it waits for is planned
// for seconds later.
func (s *subject) eventually(what string, condition func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	table, err := s.ask()
	s.t.Fatalf("never: %s\n%+v %v\n%s", what, table, err, s.logged())
}

// ask asks the keeper.
func (s *subject) ask() (keeper.Table, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return keeper.Ask(ctx, s.path(".svc"))
}

// table is what the keeper says, which must answer.
func (s *subject) table() keeper.Table {
	s.t.Helper()
	table, err := s.ask()
	if err != nil {
		s.t.Fatalf("the keeper: %v\n%s", err, s.logged())
	}
	return table
}

// youngest is the last started generation in one of the states.
func youngest(table keeper.Table, states ...keeper.State) (keeper.Generation, bool) {
	for _, g := range slices.Backward(table.Generations) {
		if slices.Contains(states, g.State) {
			return g, true
		}
	}
	return keeper.Generation{}, false
}

// serving is the generation that serves, on probation or after it.
func (s *subject) serving() keeper.Generation {
	s.t.Helper()
	table := s.table()
	for _, g := range table.Generations {
		if g.Number == table.Serving {
			return g
		}
	}
	s.t.Fatalf("nobody serves: %+v\n%s", table, s.logged())
	return keeper.Generation{}
}

// next waits for a generation that is being started, or has just begun to serve.
func (s *subject) next(after int, states ...keeper.State) keeper.Generation {
	s.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); {
		if g, ok := youngest(s.table(), states...); ok && g.Number > after {
			return g
		}
	}
	s.t.Fatalf("no generation after %d came to be %v\n%s", after, states, s.logged())
	return keeper.Generation{}
}

// settled waits until the keeper has nothing left to do.
func (s *subject) settled() keeper.Table {
	s.t.Helper()
	var table keeper.Table
	s.eventually("one generation, which serves", func() bool {
		var err error
		table, err = s.ask()
		return err == nil && len(table.Generations) == 1 && table.Generations[0].State == keeper.StateServing
	})
	return table
}

// changes is the history, oldest first, which must have no gap and no double.
func (s *subject) changes() []reload.Entry {
	s.t.Helper()
	var entries []reload.Entry
	got := s.svc("history", "--output", "json")
	if err := json.Unmarshal([]byte(got.stdout), &entries); err != nil {
		s.t.Fatalf("history: %v\n%s%s", err, got.stdout, got.stderr)
	}
	slices.SortFunc(entries, func(a, b reload.Entry) int { return cmp.Compare(a.ID, b.ID) })
	for i, e := range entries {
		if e.ID != entries[0].ID+int64(i) {
			s.t.Errorf("history with a gap or a double at %d: %s", e.ID, got.stdout)
			break
		}
	}
	return entries
}

// at asks the service at an address for its public values; ok is false where
// none answers.
func (s *subject) at(address string) (body string, ok bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/config", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", false
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return string(data), err == nil && resp.StatusCode == http.StatusOK
}

// has reports whether the service at an address has the value of moving.
func (s *subject) has(address string, n int) bool {
	s.t.Helper()
	body, ok := s.at(address)
	return ok && strings.Contains(body, fmt.Sprintf(`"n":%d}`, n))
}

// kill sends a signal to a worker, which may have ended.
func (s *subject) kill(pid int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Fatalf("signal %v to %d: %v", sig, pid, err)
	}
}

// processes are the ids of what runs in the folder.
func (s *subject) processes() (keepers, workers []int) {
	s.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// What has ended, a zombie too, has none.
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(env, []byte(folderMark+"="+s.dir+"\x00")) || !bytes.Contains(env, []byte(runAsMain+"=1\x00")) {
			continue
		}
		if bytes.Contains(env, []byte("SVC_WORKER=1\x00")) {
			workers = append(workers, pid)
			continue
		}
		keepers = append(keepers, pid)
	}
	return keepers, workers
}

// nothingLeft looks at what a stop has left behind.
func (s *subject) nothingLeft() {
	s.t.Helper()
	if keepers, workers := s.processes(); len(keepers)+len(workers) > 0 {
		s.t.Errorf("processes after the stop: keepers %v, workers %v", keepers, workers)
	}
	err := filepath.WalkDir(s.path(".svc"), func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path == s.path(".svc") {
			return nil // it was stopped before it made the folder
		}
		if err != nil {
			return err
		}
		name := e.Name()
		switch {
		case e.Type()&os.ModeSocket != 0, strings.Contains(name, ".tmp"):
			s.t.Errorf("%s is left in the state folder", path)
		case e.IsDir(), slices.Contains([]string{"lock", "history.jsonl", "last-good.json", "pin.json"}, name):
		case filepath.Base(filepath.Dir(path)) != "history":
			s.t.Errorf("%s is in the state folder", path)
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
}

// stop stops the service in order.
func (s *subject) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.exited(); code != 0 {
		s.t.Errorf("exit code %d after TERM\n%s", code, s.logged())
	}
	s.nothingLeft()
}

// prober asks again and again, on a new connection each time, until the end.
type prober struct {
	t       *testing.T
	stop    context.CancelFunc
	running sync.WaitGroup
	asked   atomic.Int64
	mu      sync.Mutex
	failed  []string
}

// newProber calls ask every few milliseconds until end.
func newProber(t *testing.T, pause time.Duration, ask func(context.Context) error) *prober {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &prober{t: t, stop: cancel}
	t.Cleanup(func() { cancel(); p.running.Wait() })
	p.running.Go(func() {
		for ctx.Err() == nil {
			within, done := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			began := time.Now()
			if err := ask(within); err != nil {
				p.mu.Lock()
				p.failed = append(p.failed, fmt.Sprintf("%s, after %v: %v", began.UTC().Format(time.RFC3339Nano), time.Since(began), err))
				p.mu.Unlock()
			}
			done()
			p.asked.Add(1)
			time.Sleep(pause)
		}
	})
	return p
}

// end fails when any question failed, or none was asked.
func (p *prober) end(what string) {
	p.t.Helper()
	p.stop()
	p.running.Wait()
	if len(p.failed) > 0 {
		p.t.Errorf("%s: %d of %d failed, the first: %s", what, len(p.failed), p.asked.Load(), strings.Join(p.failed[:min(5, len(p.failed))], "\n"))
	}
	if p.asked.Load() < 10 {
		p.t.Errorf("%s: asked %d times only", what, p.asked.Load())
	}
}

// probeHTTP is a question on a new connection, which must be answered with 200.
func probeHTTP(network, address, method, path string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		client := http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return c, nil },
		}}
		req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return err
	}
}
