package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// acceptCounter counts the connections of a listener, and those that were ended
// here.
type acceptCounter struct {
	net.Listener
	n, ended atomic.Int64
}

func (l *acceptCounter) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.n.Add(1)
	return &endedConn{Conn: nc, server: &l.ended}, nil
}

// endedConn tells who has ended it. A client may well: net/http's gives up a
// connection whose answer was faster than the end of its request.
type endedConn struct {
	net.Conn
	client atomic.Bool
	server *atomic.Int64
}

func (c *endedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.client.Store(true)
	}
	return n, err
}

func (c *endedConn) Close() error {
	if !c.client.Load() {
		c.server.Add(1)
	}
	return c.Conn.Close()
}

// harmless varies every live setting, to values that the load does not reach.
func harmless(r *rand.Rand, c *Config) {
	minutes := func() time.Duration { return time.Duration(r.IntN(4)) * time.Minute } // 0 is no limit
	c.Timeout = Timeout{ReadHeader: minutes(), Read: minutes(), Write: minutes(), Idle: minutes(), Request: minutes()}
	c.Limit = Limit{}
	if r.IntN(2) == 0 {
		c.Limit = Limit{
			BodyBytes: Size(1<<20 + r.IntN(1<<20)), Concurrency: 100 + r.IntN(100),
			RPS: 1e6 + float64(r.IntN(1000)), Burst: 1e6, Connections: 100 + r.IntN(100),
		}
	}
	c.CORS = [...]CORS{{}, {Origins: []string{"*"}}, {Origins: []string{"https://*.example"}, Methods: []string{"PUT"}, Headers: []string{"X-A"}}}[r.IntN(3)]
	c.TrustedProxies = [...][]string{nil, {"127.0.0.1"}, {"unix", "10.0.0.0/8"}}[r.IntN(3)]
	c.Drain.Timeout = time.Minute + minutes()
	c.TLS.Cert, c.TLS.ClientCA = fmt.Sprint(r.IntN(2)), fmt.Sprint(r.IntN(2)) // for later
}

// 1000 changes cost nobody a request or a connection.
func TestChangesUnderLoad(t *testing.T) {
	const clients, changes = 50, 1000
	ln := &acceptCounter{Listener: listenAll(t, "127.0.0.1:0")[0]}
	s := startOn(t, []net.Listener{ln}, Options{Handler: &counted{}}, allowH2C)
	stop := make(chan struct{})
	var load sync.WaitGroup
	var answered atomic.Int64
	for i := range clients {
		c := client(t)
		if i%2 == 0 {
			c = h2c(t)
		}
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := strings.Repeat("x", n%100*10)
				req := request(t, http.MethodPost, "http://"+s.addr+"/", strings.NewReader(body))
				req.Header.Set("Origin", "https://a.example")
				req.Header.Set("X-Forwarded-For", "203.0.113.9")
				res, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK || string(got) != fmt.Sprint(len(body)) {
					t.Errorf("answer %s %q, %v", res.Status, got, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	eventually(t, "load", func() bool { return answered.Load() > 4*clients })
	r := rand.New(rand.NewPCG(1, 2))
	before := answered.Load()
	for range changes {
		s.change(func(c *Config) { harmless(r, c) })
		time.Sleep(time.Millisecond) // for the load
	}
	during := answered.Load() - before
	close(stop)
	load.Wait()
	if n, ended := ln.n.Load(), ln.ended.Load(); n < clients || ended > 0 {
		t.Errorf("%d connections for %d clients, the server has ended %d", n, clients, ended)
	}
	if during < clients {
		t.Errorf("%d answers during the changes", during)
	}
}

// A file that is on its way by sendfile arrives whole, however its time changes.
func TestFileArrivesThroughChanges(t *testing.T) {
	const size = 16 << 20
	content := make([]byte, size)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(content)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })},
		func(c *Config) { c.Timeout.Write = time.Minute })
	c := dial(t, s.addr)
	c.send(t, getRoot)
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	for i, limit := range []time.Duration{time.Hour, 30 * time.Second, 0, 2 * time.Minute, time.Hour} {
		if _, err := io.CopyN(sum, res.Body, size/8); err != nil {
			t.Fatalf("piece %d: %v", i, err)
		}
		s.change(func(c *Config) { c.Timeout.Write = limit })
	}
	n, err := io.Copy(sum, res.Body)
	if want := sha256.Sum256(content); err != nil || n != size-5*(size/8) || string(sum.Sum(nil)) != string(want[:]) {
		t.Errorf("the rest has %d bytes, %v; the same content: %v", n, err, string(sum.Sum(nil)) == string(want[:]))
	}
	_ = res.Body.Close()
	c.send(t, getRoot) // and the connection goes on
	if a := c.receive(t); len(a.body) != size {
		t.Errorf("the second answer has %d bytes", len(a.body))
	}
}
