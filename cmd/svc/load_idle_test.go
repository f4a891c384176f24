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
	for name, busy := range map[string]int{"alone": 0, "beside busy clients": at} {
		old := r.serving()
		var l *clients.Load
		if busy > 0 {
			var err error
			if l, err = clients.Start(t.Context(), clients.Options{Target: r.target, Busy: busy, Timeout: 20 * time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		r.restart()
		accepts, now := time.Now(), r.serving()
		r.eventually("all have moved", func() bool {
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", now))
			return err == nil && len(fds) > n
		})
		moved := time.Now()
		t.Logf("%d connections, %s: accepts after %v, all have moved %v later", n, name, accepts.Sub(began), moved.Sub(accepts))
		if l != nil {
			seen, err := l.Stop()
			if err != nil {
				t.Fatal(err)
			}
			wantNoFailure(t, seen)
			if seen.Busy.Kept != busy {
				t.Errorf("%d of %d busy connections were kept", seen.Busy.Kept, busy)
			}
		}
		r.eventually("the end of the old process", func() bool { return syscall.Kill(old, 0) != nil })
		if pids := each(base); pids[now] != n {
			t.Errorf("answered by %v, the process is %d", pids, now)
		}
	}
	for id, times := range r.executed() {
		if want := 3; id >= base && times != want {
			t.Errorf("request %d was executed %d times, want %d", id-base, times, want)
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
