//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	clients "github.com/hotsvc/svc/internal/load"
)

// TestRestartWithIdleConnections: thousands of idle connections go to the new
// generation as they are, beside clients that are busy.
func TestRestartWithIdleConnections(t *testing.T) {
	const (
		wanted = 9000
		spare  = 500 // descriptors for all else
		at     = 16  // at once, when they are opened and used
	)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := int(min(wanted, max(limit.Max, spare)-spare))
	if n < 100 {
		t.Fatalf("%d descriptors are too few", limit.Max)
	}
	r := startRecorder(t, "tcp", false, recorder{})
	first := r.serving()
	var idle []*idleConn
	for range n {
		nc := r.dial()
		idle = append(idle, &idleConn{nc, bufio.NewReaderSize(nc, 512)})
	}
	each := func(from uint64) (pids map[int]int) {
		t.Helper()
		var mu sync.Mutex
		var running sync.WaitGroup
		pids = map[int]int{}
		for worker := range at {
			running.Go(func() {
				for i := worker; i < len(idle); i += at {
					a, err := idle[i].ask(from + uint64(i))
					mu.Lock()
					if pids[a.pid]++; err != nil {
						t.Errorf("connection %d: %v", i, err)
					}
					mu.Unlock()
				}
			})
		}
		running.Wait()
		return pids
	}
	// Far from what the clients beside it count up to.
	const base = 1 << 40
	if pids := each(base); pids[first] != n {
		t.Fatalf("answered by %v, the process is %d", pids, first)
	}
	const busy = 16
	l, err := clients.Start(t.Context(), clients.Options{Target: r.target, Busy: busy, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.restart()
	accepts, now := time.Now(), r.serving()
	for moved := 0; moved < n && time.Since(accepts) < 30*time.Second; time.Sleep(25 * time.Millisecond) {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", now))
		if err != nil {
			t.Fatal(err)
		}
		moved = len(fds)
	}
	t.Logf("%d connections: accepts after %v, all have moved %v later", n, accepts.Sub(began), time.Since(accepts))
	seen, err := l.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantNoFailure(t, seen)
	if seen.Busy.Kept != busy {
		t.Errorf("%d of %d busy connections were kept", seen.Busy.Kept, busy)
	}
	r.eventually("the end of the old process", func() bool { return syscall.Kill(first, 0) != nil })
	if pids := each(2 * base); pids[now] != n {
		t.Errorf("answered by %v, the process is %d", pids, now)
	}
	executed := r.executed()
	for i := range uint64(n) {
		if executed[base+i] != 1 || executed[2*base+i] != 1 {
			t.Errorf("connection %d: executed %d and %d times", i, executed[base+i], executed[2*base+i])
		}
	}
	for _, c := range idle {
		_ = c.Close()
	}
	r.stopped()
}

// idleConn is a connection that is used now and then.
type idleConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *idleConn) ask(id uint64) (answered, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return answered{}, err
	}
	if _, err := c.Write([]byte(postOf(id))); err != nil {
		return answered{}, err
	}
	a, err := readAnswered(c.reader)
	if err == nil && (a.status != http.StatusOK || a.id != id || a.last) {
		err = fmt.Errorf("%+v is no answer to request %d", a, id)
	}
	return a, err
}
