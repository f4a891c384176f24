//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNotifyStart: the address is in use for a while, as that of a keeper that
// was killed, so that there is a time in which the service is not ready.
func TestNotifyStart(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.listen()
	var config net.ListenConfig
	busy, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFolder(t, "server: {listen: ['"+busy.Addr().String()+"']}\n")
	if err := os.Mkdir(f.path(".svc"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.write(".svc/keeper.sock", "")
	f.env = []string{"NOTIFY_SOCKET=" + m.path}
	r := f.launch(asManager, os.Args[0])
	extend, _ := m.next(r, 0, "EXTEND_TIMEOUT_USEC")
	if usec, err := strconv.Atoi(extend.fields["EXTEND_TIMEOUT_USEC"]); err != nil || usec < 10_000_000 {
		t.Errorf("a start gets %v, %v", extend.fields, err)
	}
	r.until("a worker that waits for the address", func() bool { _, err := os.Stat(f.path(".svc/keeper.sock")); return err == nil && len(r.workers()) == 1 })
	time.Sleep(500 * time.Millisecond)
	if one, _, told := m.find(0, "READY"); told {
		t.Fatalf("told %v before it had the address", one.fields)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	ready, _ := m.next(r, 0, "READY")
	r.url = "http://" + busy.Addr().String()
	if code, _ := r.get("/v1/config"); code != http.StatusOK {
		t.Errorf("answers with %d when it is ready", code)
	}
	if ready.fields["READY"] != "1" || !strings.Contains(ready.fields["STATUS"], "generation 1") {
		t.Errorf("told %v", ready.fields)
	}
	r.up()
	r.environmentIsClean()
	m.onlyTheKeeper(r)
}

// TestNotifyReload: every HUP and USR2 begins with RELOADING and ends with READY,
// whatever becomes of it, and not before.
func TestNotifyReload(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.listen()
	address := freeAddress(t)
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	f.env = []string{"NOTIFY_SOCKET=" + m.path}
	program := f.path("program")
	link := func(target string) {
		t.Helper()
		if err := os.Symlink(target, program+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	link(os.Args[0])
	r := f.launch(asManager, program)
	m.next(r, 0, "READY")
	r.up()
	for _, step := range []struct {
		name   string
		before func()
		signal os.Signal
		after  func() bool
	}{
		{"HUP", func() {}, unix.SIGHUP, func() bool { return r.known().Serving == 1 }},
		{"HUP with a broken config", func() { f.edit("server: {timeout: {request: never}}\n") }, unix.SIGHUP, func() bool {
			return strings.Contains(r.log.String(), `"msg":"re-read on signal","generation":1,"outcome":"refused"`)
		}},
		{"HUP with another address", func() { f.edit("server: {listen: ['" + address + "']}\n") }, unix.SIGHUP, func() bool {
			var d net.Dialer
			c, err := d.DialContext(t.Context(), "tcp", address)
			return err == nil && c.Close() == nil
		}},
		{"USR2", func() {}, unix.SIGUSR2, func() bool { return r.known().Serving == 3 }},
		{"USR2 with no program", func() { link("/nonexistent") }, unix.SIGUSR2, func() bool {
			last := r.known().LastRestart
			return last != nil && last.Outcome == "failed" && strings.Contains(last.Error, "no such file")
		}},
		{"USR2 with a program that ends", func() { link("/bin/false") }, unix.SIGUSR2, func() bool {
			last := r.known().LastRestart
			return last != nil && last.Outcome == "failed" && strings.Contains(last.Error, "exited with code 1")
		}},
		{"USR2 again", func() { link(os.Args[0]) }, unix.SIGUSR2, func() bool { return r.known().Serving > 3 }},
	} {
		from, since := m.count(), monotonic(t)
		step.before()
		r.signal(step.signal)
		reloading, n := m.next(r, from, "RELOADING")
		usec, err := strconv.ParseInt(reloading.fields["MONOTONIC_USEC"], 10, 64)
		if err != nil || usec < since || usec > monotonic(t) || reloading.fields["RELOADING"] != "1" || reloading.fields["STATUS"] == "" {
			t.Errorf("%s: told %v, it is %d", step.name, reloading.fields, monotonic(t))
		}
		if one, _ := m.next(r, n, "READY"); one.fields["READY"] != "1" || one.fields["STATUS"] == "" {
			t.Errorf("%s: told %v", step.name, one.fields)
		}
		if !step.after() {
			t.Errorf("%s: it is not done when the service manager is told so: %v\n%+v\n%s", step.name, m.heard()[from:], r.status(), r.log)
		}
		r.environmentIsClean()
	}
	m.onlyTheKeeper(r)
	r.noneIsReloading(m)
}

// noneIsReloading fails unless the last word on it is that it is ready.
func (r *running) noneIsReloading(m *serviceManager) {
	r.t.Helper()
	r.until("ready", func() bool {
		for _, one := range slices.Backward(m.heard()) {
			if _, ready := one.fields["READY"]; ready {
				return true
			}
			if _, reloading := one.fields["RELOADING"]; reloading {
				return false
			}
		}
		return false
	})
}

// TestNotifyReloadWithoutWorker: whoever waits for the end of a reload gets it
// when there is nobody to read the sources.
func TestNotifyReloadWithoutWorker(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.listen()
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	f.env = []string{"NOTIFY_SOCKET=" + m.path}
	program := f.path("program")
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	r := f.launch(asManager, program)
	m.next(r, 0, "READY")
	r.up()
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(r.status().Generations[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until("no worker", func() bool {
		st := r.status()
		return st.Generation == 0 && strings.Contains(st.Trouble, "no such file")
	})
	from := m.count()
	r.signal(unix.SIGHUP)
	_, n := m.next(r, from, "RELOADING")
	m.next(r, n, "READY")
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	r.up() // by itself
	m.onlyTheKeeper(r)
}

// TestNotifyWatchdog: a sign of life comes in time for the manager, whatever the
// worker does, and about twice as often as it must.
func TestNotifyWatchdog(t *testing.T) {
	t.Parallel()
	const interval = 4 * time.Second
	m := newServiceManager(t)
	m.listen()
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	f.env = []string{"NOTIFY_SOCKET=" + m.path, fmt.Sprintf("WATCHDOG_USEC=%d", interval.Microseconds())}
	r := f.launch(asManager, os.Args[0])
	ready, n := m.next(r, 0, "READY")
	r.up()
	worker := r.status().Generations[0].PID
	if err := unix.Kill(worker, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(worker, unix.SIGCONT) }()
	r.signal(unix.SIGHUP) // it does not answer
	last := ready
	for range 3 {
		var one word
		one, n = m.next(r, n, "WATCHDOG")
		if one.fields["WATCHDOG"] != "1" || one.at.Sub(last.at) > interval {
			t.Errorf("told %v %v after the one before", one.fields, one.at.Sub(last.at))
		}
		last = one
	}
	signs := 0
	for _, one := range m.heard() {
		if _, sign := one.fields["WATCHDOG"]; sign {
			signs++
		}
	}
	if most := int(last.at.Sub(m.heard()[0].at)/(interval/2)) + 2; signs > most {
		t.Errorf("%d signs of life, %d are enough", signs, most)
	}
	m.onlyTheKeeper(r)
}

// TestNotifyForeignWatchdog: a watchdog that waits for another process hears
// nothing from this one (sd_watchdog_enabled(3)).
func TestNotifyForeignWatchdog(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.listen()
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	f.env = []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=100000"}
	r := f.launch("export WATCHDOG_PID=1", os.Args[0])
	m.next(r, 0, "READY")
	r.up()
	time.Sleep(500 * time.Millisecond)
	if one, _, told := m.find(0, "WATCHDOG"); told {
		t.Errorf("told %v", one.fields)
	}
}

func TestNotifyStop(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.listen()
	f := newFolder(t, "server: {listen: ['127.0.0.1:0'], drain: {timeout: 40s}}\n")
	f.env = []string{"NOTIFY_SOCKET=" + m.path}
	r := f.launch(asManager, os.Args[0])
	m.next(r, 0, "READY")
	r.up()
	r.signal(unix.SIGUSR2)
	r.until("a restart", func() bool { return r.status().Generation == 2 })
	answered := make(chan int, 1)
	go func() {
		code, _ := r.get("/v1/echo?delay=2s")
		answered <- code
	}()
	time.Sleep(500 * time.Millisecond)
	from := m.count()
	r.signal(unix.SIGTERM)
	stopping, n := m.next(r, from, "STOPPING")
	if stopping.fields["STOPPING"] != "1" || stopping.fields["STATUS"] == "" {
		t.Errorf("told %v", stopping.fields)
	}
	extend, _ := m.next(r, n, "EXTEND_TIMEOUT_USEC")
	if usec, err := strconv.Atoi(extend.fields["EXTEND_TIMEOUT_USEC"]); err != nil || usec < 40_000_000 {
		t.Errorf("a drain of 40s gets %v, %v", extend.fields, err)
	}
	select {
	case code := <-answered:
		t.Errorf("answered with %d before the service manager was told of the stop", code)
	default:
	}
	if code := <-answered; code != http.StatusOK {
		t.Errorf("a request under way was answered with %d", code)
	}
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if one, _, told := m.find(from, "READY"); told {
		t.Errorf("told %v after the stop", one.fields)
	}
	m.onlyTheKeeper(r)
}

// TestNotifyDeaf: a service manager that reads nothing holds nobody up.
func TestNotifyDeaf(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	t.Cleanup(func() { _ = m.conn.Close() })
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	// Its queue is full after some.
	f.env = []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=20000"}
	r := f.launch(asManager, os.Args[0])
	r.up()
	time.Sleep(time.Second)
	f.svc("restart").want(t, 0, "restarted")
	if code, _ := r.get("/v1/config"); code != http.StatusOK {
		t.Errorf("answers with %d", code)
	}
	r.signal(unix.SIGTERM)
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestNotifyNobody: a manager that is gone is said once.
func TestNotifyNobody(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	f.env = []string{"NOTIFY_SOCKET=" + f.path("nobody")}
	r := f.launch(asManager, os.Args[0])
	r.up()
	f.svc("restart").want(t, 0, "restarted")
	if said := strings.Count(r.log.String(), "service manager does not hear"); said != 1 {
		t.Errorf("said %d times\n%s", said, r.log)
	}
}
