package liveconn

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"pgregory.net/rapid"
)

// outcome is what a server has made of a client's bytes.
type outcome struct {
	Calls   []string // of the handler
	Answers string
	Closed  bool
}

// calls notes how a handler was called. It answers by the path.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body []byte
	var err error
	if r.URL.Path != "/unread" {
		body, err = io.ReadAll(r.Body)
	}
	c.mu.Lock()
	c.list = append(c.list, fmt.Sprintf("%s %s %s %q, failed: %v", r.Method, r.URL, r.Proto, body, err != nil))
	c.mu.Unlock()
	w.Header()["Date"] = nil // as no clock is
	switch r.URL.Path {
	case "/abort":
		panic(http.ErrAbortHandler)
	case "/close":
		w.Header().Set("Connection", "close")
	case "/large":
		_, _ = w.Write(make([]byte, 9000))
	case "/hints":
		w.WriteHeader(http.StatusEarlyHints)
	case "/hijack":
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			break // on HTTP/2
		}
		_, _ = fmt.Fprintf(rw, "%d", rw.Reader.Buffered())
		_ = rw.Flush()
		_ = nc.Close()
		return
	}
	_, _ = fmt.Fprintf(w, "%d bytes", len(body))
}

// exchange sends the pieces and returns what comes of them after a minute.
func (c *calls) exchange(nc net.Conn, pieces [][]byte) outcome {
	var mu sync.Mutex
	var answers bytes.Buffer
	closed := false
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := nc.Read(b)
			mu.Lock()
			answers.Write(b[:n])
			closed = err != nil
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for _, p := range pieces {
			if _, err := nc.Write(p); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	time.Sleep(time.Minute)
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.list) // streams of HTTP/2 have no order
	return outcome{c.list, answers.String(), closed}
}

// cut divides data at places that the other bytes name, one after the other.
func cut(data, places []byte) [][]byte {
	var pieces [][]byte
	for _, p := range places {
		n := int(p) + 1
		if n >= len(data) {
			break
		}
		pieces, data = append(pieces, data[:n]), data[n:]
	}
	return append(pieces, data)
}

// FuzzBytes holds a server with a registry to what a plain http.Server makes of
// the same bytes, cut in the same way, as long as no time is over.
func FuzzBytes(f *testing.F) {
	settings := string([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
	ping := string([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	for _, data := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHos",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyPOST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyG",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\r\nGET /large HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbodyGET /hints HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\nExpect: 100-continue\r\n\r\nbody",
		"GET / HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /large HTTP/1.0\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nbytes",
		"GET /hijack HTTP/1.1\r\nHost: x\r\n\r\nbytes that are left",
		"POST /hijack HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
		"GET /abort HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /close HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "nonsense\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
		"GET / HTTP/1.1\r\nHost: x\r\nLong: " + string(bytes.Repeat([]byte("x"), 9000)) + "\r\n\r\n",
		http2.ClientPreface, http2.ClientPreface + settings + ping, http2.ClientPreface[:20],
		http2.ClientPreface[:16] + "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		for _, places := range []string{"", "\x00", "\x00\x00\x00\x00\x00", "\x0d\x09\x05", "\x17\x08", "\x30\x10", "\xff\xff\xff"} {
			f.Add([]byte(data), []byte(places), true)
			f.Add([]byte(data), []byte(places), false)
		}
	}
	f.Fuzz(func(t *testing.T, data, places []byte, h2c bool) {
		if len(data) == 0 || len(data) > 1<<15 || len(places) > 100 {
			return
		}
		pieces := cut(data, places)
		var want, got outcome
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			var protocols http.Protocols
			protocols.SetHTTP1(true)
			protocols.SetUnencryptedHTTP2(h2c)
			c := &calls{}
			plain := &http.Server{
				Handler: c, Protocols: &protocols, MaxHeaderBytes: 4096,
				ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = plain.Serve(p)
			}()
			want = c.exchange(p.dial(t), pieces)
			_ = plain.Close()
			<-done
		})
		synctest.Test(t, func(t *testing.T) {
			c := &calls{}
			long := 10 * time.Minute
			s := serve(t, transport{h2c: h2c}, Timeouts{long, long, long, long, long}, c.ServeHTTP)
			s.server.MaxHeaderBytes = 4096
			got = c.exchange(s.pipes.dial(t), pieces)
			if s.Empty() != got.Closed {
				t.Errorf("the connection is closed: %v, and the registry is empty: %v", got.Closed, s.Empty())
			}
		})
		if h2c && bytes.HasPrefix(data, []byte(http2.ClientPreface)) {
			want.Answers, got.Answers = "", "" // frames have no fixed order either
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("a registry makes a difference (-plain +registry):\n%s", d)
		}
	})
}

// step is something that happens to a connection of HTTP/1. What does not fit
// the state that the connection is in then is left out.
type step struct {
	what string
	// d is a time to pass, or until an own deadline: 0 is none, below 0 past.
	d        time.Duration
	timeouts Timeouts
	n        int
	yes      bool // whether the header is whole, or a next request is there
	body     bool
}

func steps() *rapid.Generator[[]step] {
	limit := rapid.Custom(func(t *rapid.T) time.Duration {
		return max(0, time.Duration(rapid.IntRange(-1, 12).Draw(t, "limit"))*time.Second)
	})
	words := []string{
		"sleep", "sleep", "sleep", "sleep", "bytes", "bytes", "bytes", "bytes", "bytes", "timeouts", "timeouts",
		"read", "read", "end of body", "write", "write", "drain", "own read", "own write", "finish", "finish", "hijack", "close",
	}
	one := rapid.Custom(func(t *rapid.T) step {
		s := step{what: rapid.SampledFrom(words).Draw(t, "what")}
		switch s.what {
		case "sleep":
			s.d = time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond
		case "timeouts":
			s.timeouts = Timeouts{limit.Draw(t, "header"), limit.Draw(t, "read"), limit.Draw(t, "write"), limit.Draw(t, "idle"), 0}
		case "own read", "own write":
			s.d = time.Duration(rapid.IntRange(-1, 8).Draw(t, "s")) * time.Second
		case "write", "drain":
			s.n = rapid.IntRange(1, 8).Draw(t, "n")
		case "bytes":
			s.yes, s.body = rapid.Bool().Draw(t, "whole"), rapid.Bool().Draw(t, "body")
		case "finish":
			s.yes = rapid.Bool().Draw(t, "glued")
		}
		return s
	})
	return rapid.SliceOfN(one, 80, 80) // the simplest step does nothing
}
