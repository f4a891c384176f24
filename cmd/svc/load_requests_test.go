//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answered is an answer of the recorder.
type answered struct {
	status, pid int
	id          uint64
	last        bool // the server wants no more requests on this connection
}

// readAnswered reads one answer of the recorder.
func readAnswered(br *bufio.Reader) (answered, error) {
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return answered{}, err
	}
	body, err := io.ReadAll(res.Body)
	if closeErr := res.Body.Close(); err != nil || closeErr != nil {
		return answered{}, fmt.Errorf("%w, %w", err, closeErr)
	}
	a := answered{status: res.StatusCode, last: res.Close}
	if a.pid, err = strconv.Atoi(res.Header.Get("Load-Pid")); err != nil {
		return answered{}, fmt.Errorf("the answer is %s and names no process", res.Status)
	}
	if id := res.Header.Get("Load-Id"); id != "" {
		if a.id, err = strconv.ParseUint(id, 10, 64); err != nil || string(body) != id {
			return answered{}, fmt.Errorf("the answer names %s, its body %q", id, body)
		}
	}
	return a, nil
}

// postOf is a whole request of the recorder.
func postOf(id uint64) string {
	text := strconv.FormatUint(id, 10)
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nLoad-Id: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", text, len(text), text)
}

func send(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// TestRestartWithinRequest: what the old generation has begun to read, or to
// answer, it completes.
func TestRestartWithinRequest(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plaintext", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			r := startRecorder(t, "tcp", secure, recorder{})
			old := r.serving()
			dial := func() net.Conn {
				nc := r.dial()
				if secure {
					return tls.Client(nc, r.target.TLS)
				}
				return nc
			}
			long := dial()
			send(t, long, "GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
			reader := bufio.NewReader(long)
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			const part = longBytes / longBlock / 8
			wantBlocks(t, res.Body, 0, part)
			// Cut anywhere: within the header, and within the body.
			type half struct {
				nc   net.Conn
				id   uint64
				rest string
			}
			const idBase = 1_000_000 // seven digits, so that a body has halves
			var halves []half
			whole := postOf(idBase)
			for cut := 1; cut < len(whole); cut += 5 {
				h := half{nc: dial(), id: idBase + uint64(cut)}
				text := postOf(h.id)
				send(t, h.nc, text[:cut])
				h.rest = text[cut:]
				halves = append(halves, h)
			}
			time.Sleep(100 * time.Millisecond) // it has read what was sent

			r.restart()
			if now := r.serving(); now == old {
				t.Fatalf("process %d serves before and after", now)
			}
			for _, h := range halves {
				send(t, h.nc, h.rest)
				a, err := readAnswered(bufio.NewReader(h.nc))
				if err != nil || a.status != http.StatusOK || a.id != h.id || a.pid != old {
					t.Errorf("request that was cut with %d bytes left: %+v, %v, the old process is %d", len(h.rest), a, err, old)
				}
			}
			wantBlocks(t, res.Body, part, longBytes/longBlock)
			if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("after the answer's end: %d, %v", n, err)
			}
			if pid, _ := strconv.Atoi(res.Header.Get("Load-Pid")); pid != old {
				t.Errorf("process %d has answered, the old one is %d", pid, old)
			}
			if !secure { // all but the open ones are gone by themselves
				r.alone()
			}
			executed := r.executed()
			if len(executed) != len(halves) {
				t.Errorf("%d requests were executed, of %d", len(executed), len(halves))
			}
			for id, times := range executed {
				if times != 1 {
					t.Errorf("request %d was executed %d times", id, times)
				}
			}
			if cut := r.cuts(); len(cut) > 0 {
				t.Errorf("cut off: %q", cut)
			}
		})
	}
}

// wantBlocks reads the blocks of a long answer from one to before another.
func wantBlocks(t *testing.T, body io.Reader, from, to int) {
	t.Helper()
	got := make([]byte, longBlock)
	for n := from; n < to; n++ {
		if _, err := io.ReadFull(body, got); err != nil {
			t.Fatalf("block %d: %v", n, err)
		}
		if !bytes.Equal(got, blockOf(n)) {
			t.Fatalf("block %d is mangled", n)
		}
	}
}

// TestRestartBeforeRequest: a connection that has not sent anything by the time
// of the restart is answered like any other (golang/go#75591).
func TestRestartBeforeRequest(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plaintext", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			r := startRecorder(t, "tcp", secure, recorder{Generations: 20})
			next := uint64(1)
			for range 5 {
				var silent []net.Conn
				for range 40 {
					silent = append(silent, r.dial())
				}
				// Some are opened while the restart is under way.
				done := make(chan struct{})
				go func() {
					defer close(done)
					r.restart()
				}()
				for open := true; open; {
					select {
					case <-done:
						open = false
					case <-time.After(2 * time.Millisecond):
						silent = append(silent, r.dial())
					}
				}
				for _, nc := range silent {
					if secure {
						nc = tls.Client(nc, r.target.TLS)
					}
					send(t, nc, postOf(next))
					a, err := readAnswered(bufio.NewReader(nc))
					if err != nil || a.status != http.StatusOK || a.id != next {
						t.Errorf("request %d: %+v, %v", next, a, err)
					}
					next++
				}
				for _, nc := range silent {
					_ = nc.Close()
				}
			}
			r.alone()
			executed := r.executed()
			for id := uint64(1); id < next; id++ {
				if executed[id] != 1 {
					t.Errorf("request %d was executed %d times", id, executed[id])
				}
			}
		})
	}
}

// TestRestartWithStuckHandler: a handler that never ends holds a generation up
// until server.drain.timeout is over, and is named by then.
func TestRestartWithStuckHandler(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	r := startRecorder(t, "tcp", false, recorder{Timeout: timeout})
	nc := r.dial()
	send(t, nc, "GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
	time.Sleep(100 * time.Millisecond)
	before := r.known().Generations[0].PID
	began := time.Now()
	r.restart()
	if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("the connection is not cut: %d, %v", n, err)
	}
	if took := time.Since(began); took < timeout {
		t.Errorf("cut after %v, server.drain.timeout is %v", took, timeout)
	}
	r.alone()
	if err := syscall.Kill(before, 0); err == nil {
		t.Errorf("process %d has not ended", before)
	}
	cut := r.cuts()
	if len(cut) != 1 || !strings.Contains(cut[0], "by kind: http1 1") || !strings.Contains(cut[0], "server.drain.timeout") || !strings.Contains(cut[0], "handlers still running: 1") {
		t.Errorf("logged: %q", cut)
	}
	// Nobody else is concerned.
	other := r.dial()
	send(t, other, postOf(1))
	if a, err := readAnswered(bufio.NewReader(other)); err != nil || a.status != http.StatusOK {
		t.Errorf("%+v, %v", a, err)
	}
	r.restart()
	r.stopped()
}

// TestRestartWithHijackedConnections: who has taken a connection is told of the
// drain and its times, may leave, and is cut at the end.
func TestRestartWithHijackedConnections(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second
	r := startRecorder(t, "tcp", false, recorder{Timeout: timeout})
	old := r.serving()
	type taken struct {
		net.Conn
		br *bufio.Reader
	}
	take := func(query string) taken {
		nc := r.dial()
		send(t, nc, "GET /hijack"+query+" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		c := taken{nc, bufio.NewReader(nc)}
		if res, err := http.ReadResponse(c.br, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols { //nolint:bodyclose // it has none
			t.Fatalf("%+v, %v", res, err)
		}
		if line, err := c.br.ReadString('\n'); err != nil || line != fmt.Sprintf("taken by %d\n", old) {
			t.Fatalf("%q, %v", line, err)
		}
		return c
	}
	leaves, stays := take("?leave"), take("")
	began := time.Now()
	r.restart()
	for _, c := range []taken{leaves, stays} {
		line, err := c.br.ReadString('\n')
		var at, by int64
		if n, scanErr := fmt.Sscanf(line, "drain %d %d\n", &at, &by); err != nil || n != 2 || scanErr != nil ||
			by <= 0 || by > timeout.Milliseconds() || at > by {
			t.Errorf("told %q, %v, %v", line, err, scanErr)
		}
	}
	if _, err := leaves.br.ReadByte(); err != io.EOF {
		t.Errorf("after the leave: %v", err)
	}
	r.eventually("the count of what is left", func() bool {
		for _, g := range r.known().Generations {
			if g.PID == old {
				return g.Connections["custom"] == 1
			}
		}
		t.Fatal("the generation has ended with a connection that a handler has")
		return false
	})
	if _, err := stays.br.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("at the end: %v", err)
	}
	if took := time.Since(began); took < timeout {
		t.Errorf("cut after %v, server.drain.timeout is %v", took, timeout)
	}
	r.alone()
	if cut := r.cuts(); len(cut) != 1 || !strings.Contains(cut[0], "by kind: custom 1") {
		t.Errorf("logged: %q", cut)
	}
}
