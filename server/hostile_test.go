package server

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

// A header that is too long is answered, and nothing more is read. net/http
// grants HTTP/1 4 KiB beyond what is set.
func TestHeaderLimit(t *testing.T) {
	for _, limit := range []Size{256, 4096, 64 << 10, 1 << 20} {
		t.Run(limit.String(), func(t *testing.T) {
			h := &counted{}
			s := start(t, Options{Handler: h}, func(c *Config) { c.MaxHeaderBytes = limit })
			for _, tt := range []struct {
				bytes  int
				status int
			}{{int(limit) - 100, 200}, {int(limit) + 4<<10 + 100, 431}, {int(limit) + 1<<20, 431}} {
				c := dial(t, s.addr)
				// The rest of one that is far too long may find nobody.
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", tt.bytes-30)+"\r\n\r\n")
				if a := c.receive(t); a.StatusCode != tt.status || a.Close != (tt.status == 431) {
					t.Errorf("%d bytes: %s, closed %v; want %d", tt.bytes, a.Status, a.Close, tt.status)
				}
			}
			if n := h.calls.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
		})
	}
}

// The same for one that never ends, whatever it is made of.
func TestHeaderWithoutEnd(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)}, func(c *Config) { c.MaxHeaderBytes = 64 << 10 })
	for name, text := range map[string]string{
		"lines":        "a: b\r\n",
		"many names":   "",
		"one line":     "xxxxxxxxxxxxxxxx",
		"folded lines": " x\r\n",
		"empty values": "x:\r\n",
		"request line": "/",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := dial(t, s.addr)
			begin := "GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n"
			if name == "request line" {
				begin = "GET /"
			}
			_, err := io.WriteString(c, begin)
			var sent int
			for i := 0; err == nil; i++ {
				piece := strings.Repeat(text, 1000)
				if text == "" {
					piece = fmt.Sprintf("X-%d: y\r\n", i)
				}
				var n int
				n, err = io.WriteString(c, piece)
				sent += n
			}
			// What is lost in sockets' buffers is not read.
			if sent > 16<<20 {
				t.Errorf("it took %d bytes", sent)
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
				t.Errorf("the heap has grown by %d bytes", grown)
			}
			eventually(t, "end of the connection", func() bool { return total(s) == 0 })
		})
	}
}

// Many requests in one write are answered in their order.
func TestPipelining(t *testing.T) {
	s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	})})
	c := dial(t, s.addr)
	var all strings.Builder
	for i := range 100 {
		if i%3 == 0 {
			_, _ = fmt.Fprintf(&all, "POST /%d HTTP/1.1\nHost: x\nContent-Length: 2\n\nab", i)
		} else {
			_, _ = fmt.Fprintf(&all, "GET /%d HTTP/1.1\nHost: x\n\n", i)
		}
	}
	c.send(t, all.String())
	for i := range 100 {
		want := fmt.Sprintf("/%d ", i)
		if i%3 == 0 {
			want += "ab"
		}
		if a := c.receive(t); a.body != want {
			t.Fatalf("answer %d is %q, want %q", i, a.body, want)
		}
	}
}

// What follows a request that is not one is answered as such, after its answer.
func TestTrailingGarbage(t *testing.T) {
	h := &counted{}
	s := start(t, Options{Handler: h, Logger: discard()})
	for _, garbage := range []string{"garbage\r\n\r\n", "\x00\x01\x02\r\n\r\n", "\r\n\r\nx\r\n\r\n", strings.Repeat("x", 100) + "\r\n"} {
		c := dial(t, s.addr)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"+garbage)
		if got := strings.Join(c.answers(t), " "); got != "200 400" {
			t.Errorf("%q: answers %s", garbage, got)
		}
	}
	if n := h.calls.Load(); n != 4 {
		t.Errorf("the handler ran %d times", n)
	}
}

func TestAbsoluteForm(t *testing.T) {
	s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", r.Host, r.URL.Path)
	})})
	c := dial(t, s.addr)
	// RFC 9112 section 3.2.2: the target wins over the header.
	c.send(t, "GET http://target/path HTTP/1.1\nHost: header\n\n")
	if a := c.receive(t); a.body != "target /path" {
		t.Errorf("answer %q", a.body)
	}
	c.send(t, "CONNECT target:443 HTTP/1.1\nHost: header\n\n")
	if a := c.receive(t); a.body != "target:443 " {
		t.Errorf("answer %q", a.body)
	}
}

func TestOptionsOfTheServer(t *testing.T) {
	h := &counted{}
	s := start(t, Options{Handler: h}, rps(0.001, 1))
	c := dial(t, s.addr)
	c.send(t, "OPTIONS * HTTP/1.1\nHost: x\n\n")
	if a := c.receive(t); a.StatusCode != 200 || a.ContentLength != 0 || a.Close {
		t.Errorf("answer %s of %d bytes, closed %v", a.Status, a.ContentLength, a.Close)
	}
	c.send(t, "OPTIONS * HTTP/1.1\nHost: x\n\n")
	wantProblem(t, c.receive(t), 429, "server.limit.rps")
	if n := h.calls.Load(); n != 0 {
		t.Errorf("the application got it %d times", n)
	}
}

// A client that goes away in any phase leaves nothing behind, and no noise.
func TestEarlyClose(t *testing.T) {
	log := &syncBuffer{}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.Copy(w, io.LimitReader(&filler{r}, 1<<20))
	})
	mux.HandleFunc("/wait", untilDone)
	s := startTLS(t, Options{Handler: mux, Logger: slog.New(slog.NewTextHandler(log, nil))}, nil)
	plain := start(t, Options{Handler: mux, Logger: slog.New(slog.NewTextHandler(log, nil))}, allowH2C)
	before := runtime.NumGoroutine()
	hello := clientHello(t)
	for range 20 {
		for _, text := range []string{
			"", "G", "GET / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
			"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		} {
			for _, reset := range []bool{false, true} {
				c := dial(t, plain.addr)
				_, _ = io.WriteString(c, text)
				hangUp(t, c.Conn, reset)
			}
		}
		for _, n := range []int{0, 1, 5, len(hello) / 2, len(hello)} {
			c := dial(t, s.addr)
			_, _ = c.Write(hello[:n])
			hangUp(t, c.Conn, n%2 == 0)
		}
	}
	eventually(t, "end of all connections", func() bool { return total(plain) == 0 && total(s.running) == 0 })
	eventually(t, "end of all handlers", func() bool { return plain.requests.Load() == 0 && runtime.NumGoroutine() <= before+2 })
	if text := log.String(); text != "" {
		t.Errorf("anybody can fill the log: %s", text)
	}
}

func hangUp(t *testing.T, nc net.Conn, reset bool) {
	t.Helper()
	if reset {
		if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
	}
	_ = nc.Close()
}

// Clients that stand still in each phase are gone when its time is over, however
// many they are.
func TestSlowClients(t *testing.T) {
	const n = 1000
	short := func(c *Config) {
		c.H2C = true
		c.Timeout = Timeout{ReadHeader: time.Hour, Read: time.Hour, Write: time.Hour, Idle: time.Hour}
	}
	for _, tt := range []struct {
		name  string
		text  string
		class liveconn.Class // what they are while they stand still
		end   func(*Timeout)
	}{
		{"nothing sent", "", liveconn.Class{Kind: liveconn.KindHTTP1, State: liveconn.StateNew}, func(t *Timeout) { t.ReadHeader = time.Millisecond }},
		{"half a header", "GET / HTTP/1.1\r\nHost: x\r\nX:", liveconn.Class{Kind: liveconn.KindHTTP1, State: liveconn.StateActive}, func(t *Timeout) { t.ReadHeader = time.Millisecond }},
		{"half a body", "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", liveconn.Class{Kind: liveconn.KindHTTP1, State: liveconn.StateActive}, func(t *Timeout) { t.Read = time.Millisecond }},
		{"an answer not read", "GET /write HTTP/1.1\r\nHost: x\r\n\r\n", liveconn.Class{Kind: liveconn.KindHTTP1, State: liveconn.StateActive}, func(t *Timeout) { t.Write = time.Millisecond }},
		{"idle", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", liveconn.Class{Kind: liveconn.KindHTTP1, State: liveconn.StateIdle}, func(t *Timeout) { t.Idle = time.Millisecond }},
		{"idle after half a header", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", liveconn.Class{Kind: liveconn.KindHTTP1, State: liveconn.StateActive}, func(t *Timeout) { t.ReadHeader = time.Millisecond }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/", hello)
			mux.HandleFunc("/read", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
			piece := make([]byte, 1<<20)
			mux.HandleFunc("/write", func(w http.ResponseWriter, _ *http.Request) {
				for range 64 {
					if _, err := w.Write(piece); err != nil {
						return
					}
				}
			})
			log := &syncBuffer{}
			s := start(t, Options{Handler: mux, Logger: slog.New(slog.NewTextHandler(log, nil))}, short)
			before := runtime.NumGoroutine()
			conns := make([]*raw, n)
			for i := range conns {
				conns[i] = dial(t, s.addr)
				// So that an answer does not fit into buffers.
				if err := conns[i].Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
					t.Fatal(err)
				}
				if tt.text != "" {
					if _, err := io.WriteString(conns[i], tt.text); err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, "all of them", func() bool { return s.Connections()[tt.class] == n })
			s.change(func(c *Config) { tt.end(&c.Timeout) })
			eventually(t, "none of them", func() bool { return total(s) == 0 })
			s.change(short)
			if a := get(t, client(t), "http://"+s.addr+"/"); a.body != "hello" {
				t.Errorf("another client: %s", a.Status)
			}
			eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before+10 })
			if text := log.String(); text != "" {
				t.Errorf("anybody can fill the log: %s", text)
			}
		})
	}
}
