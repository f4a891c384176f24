package server

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/hotsvc/svc/server/liveconn"
)

// frames speaks HTTP/2 frame by frame, without TLS.
type frames struct {
	*raw
	mu     sync.Mutex // of the framer's writes
	framer *xhttp2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	dec    *hpack.Decoder
}

func dialH2(t *testing.T, addr string) *frames {
	t.Helper()
	f := &frames{raw: dial(t, addr)}
	f.enc, f.dec = hpack.NewEncoder(&f.block), hpack.NewDecoder(4096, nil)
	f.framer = xhttp2.NewFramer(f.Conn, f.r)
	if _, err := io.WriteString(f.Conn, xhttp2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// open sends a request without a body.
func (f *frames) open(id uint32, path string, more ...hpack.HeaderField) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.block.Reset()
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: path},
	}, more...) {
		if err := f.enc.WriteField(field); err != nil {
			return err
		}
	}
	return f.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: true, EndHeaders: true})
}

func (f *frames) write(do func(*xhttp2.Framer) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return do(f.framer)
}

// seen is what the server has sent.
type seen struct {
	goAway bool
	ended  map[uint32]bool // streams
	status map[uint32]string
}

// read reads until the connection ends or until says so.
func (f *frames) read(t *testing.T, until func(*seen) bool) *seen {
	t.Helper()
	s := &seen{ended: map[uint32]bool{}, status: map[uint32]string{}}
	for until == nil || !until(s) {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			if until != nil {
				t.Fatalf("read a frame: %v; before that %+v", err, s)
			}
			return s
		}
		switch frame := frame.(type) {
		case *xhttp2.SettingsFrame:
			if !frame.IsAck() {
				if err := f.write((*xhttp2.Framer).WriteSettingsAck); err != nil {
					t.Error(err)
				}
			}
		case *xhttp2.GoAwayFrame:
			s.goAway = true
		case *xhttp2.HeadersFrame:
			fields, err := f.dec.DecodeFull(frame.HeaderBlockFragment())
			if err != nil || len(fields) == 0 || fields[0].Name != ":status" {
				t.Fatalf("header %v, %v", fields, err)
			}
			s.status[frame.StreamID] = fields[0].Value
			if frame.StreamEnded() {
				s.ended[frame.StreamID] = true
			}
		case *xhttp2.DataFrame:
			if frame.StreamEnded() {
				s.ended[frame.StreamID] = true
			}
		}
	}
	return s
}

func TestDrainOfIdleH2Connections(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)}, allowH2C)
	f := dialH2(t, s.addr)
	if err := f.open(1, "/"); err != nil {
		t.Fatal(err)
	}
	f.read(t, func(s *seen) bool { return s.ended[1] })
	eventually(t, "an idle connection", func() bool { return s.count(liveconn.KindH2, liveconn.StateIdle) == 1 })
	s.stop()
	f.read(t, func(s *seen) bool { return s.goAway })
	// What was on its way is served, and then the connection is closed.
	if err := f.open(3, "/"); err != nil {
		t.Fatal(err)
	}
	if got := f.read(t, nil); !got.ended[3] {
		t.Error("the stream after the GOAWAY has no answer")
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

func TestDrainOfActiveH2Connections(t *testing.T) {
	g := newGate()
	s := start(t, Options{Handler: g}, allowH2C)
	f := dialH2(t, s.addr)
	for _, id := range []uint32{1, 3, 5} {
		if err := f.open(id, "/"); err != nil {
			t.Fatal(err)
		}
		<-g.entered
	}
	s.stop()
	eventually(t, "drain", s.Draining)
	if err := f.open(7, "/"); err != nil { // it has not been told yet
		t.Fatal(err)
	}
	<-g.entered
	close(g.leave)
	got := f.read(t, nil)
	for _, id := range []uint32{1, 3, 5, 7} {
		if !got.ended[id] {
			t.Errorf("stream %d has no answer", id)
		}
	}
	if !got.goAway {
		t.Error("no GOAWAY")
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// What a stop refuses was not executed, and a client of HTTP/2 knows it.
func TestDrainUnderH2Load(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %v", secure), func(t *testing.T) {
			var executed, answered atomic.Int64
			o := Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
				executed.Add(1)
				hello(w, r)
			})}
			var s *running
			var connect func() *http.Client
			url := ""
			if secure {
				sec := startTLS(t, o, nil)
				s, url = sec.running, "https://"
				connect = func() *http.Client { return sec.https(t, sec.clientTLS(nil), http2) }
			} else {
				s, url = start(t, o, allowH2C), "http://"
				connect = func() *http.Client { return h2c(t) }
			}
			var running sync.WaitGroup
			for range 8 {
				tr := connect().Transport.(*http.Transport)
				for range 4 {
					running.Go(func() {
						for load(t, tr, url+s.addr+"/") {
							answered.Add(1)
						}
					})
				}
			}
			eventually(t, "load", func() bool { return answered.Load() > 500 })
			s.stop()
			if err := s.wait(t); err != nil {
				t.Error(err)
			}
			running.Wait()
			if e, a := executed.Load(), answered.Load(); e != a {
				t.Errorf("%d executed, %d answered", e, a)
			}
		})
	}
}

// The limit is announced. A client that does not mind it gets 431, and one that
// sends a single field beyond it loses the connection.
func TestH2HeaderLimit(t *testing.T) {
	h := &counted{}
	s := start(t, Options{Handler: h}, allowH2C, func(c *Config) { c.MaxHeaderBytes = 1024 })
	f := dialH2(t, s.addr)
	send := func(id uint32, fields, length int) {
		t.Helper()
		field := hpack.HeaderField{Name: "x-long", Value: strings.Repeat("x", length), Sensitive: true}
		if err := f.open(id, "/", slices.Repeat([]hpack.HeaderField{field}, fields)...); err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		fields int
		status string
	}{{5, "200"}, {15, "431"}, {5, "200"}} {
		id := uint32(2*i + 1)
		send(id, tt.fields, 100)
		if got := f.read(t, func(s *seen) bool { return s.ended[id] }).status[id]; got != tt.status {
			t.Errorf("%d fields: %s, want %s", tt.fields, got, tt.status)
		}
	}
	send(7, 1, 15_000)
	if got := f.read(t, nil); !got.goAway || got.ended[7] {
		t.Errorf("far beyond the limit: %+v", got)
	}
	if n := h.calls.Load(); n != 2 {
		t.Errorf("the handler ran %d times", n)
	}
}

// A client that opens streams and resets them at once (CVE-2023-44487) gets no
// more handlers at a time than one that waits for answers.
func TestH2RapidReset(t *testing.T) {
	var running, most atomic.Int64
	release := make(chan struct{})
	s := start(t, Options{Handler: handler(func(http.ResponseWriter, *http.Request) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release // it does not even mind its context
	})}, allowH2C)
	before := runtime.NumGoroutine()
	f := dialH2(t, s.addr)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.read(t, nil)
	}()
	for id := uint32(1); id < 20_000; id += 2 {
		err := f.open(id, "/")
		if err == nil {
			err = f.write(func(fr *xhttp2.Framer) error { return fr.WriteRSTStream(id, xhttp2.ErrCodeCancel) })
		}
		if err != nil {
			break // it had enough
		}
	}
	<-ended
	if n := most.Load(); n > 250 {
		t.Errorf("%d handlers at once", n)
	}
	if n := runtime.NumGoroutine() - before; n > 400 {
		t.Errorf("%d goroutines more", n)
	}
	// Others are served meanwhile.
	close(release)
	if a := get(t, h2c(t), "http://"+s.addr+"/"); a.StatusCode != 200 {
		t.Errorf("another client: %s", a.Status)
	}
	eventually(t, "end of the handlers", func() bool { return running.Load() == 0 && s.requests.Load() == 0 })
}

// Limits count streams, so they bound what one connection can do.
func TestH2StreamsAreLimited(t *testing.T) {
	g := newGate()
	s := start(t, Options{Handler: g}, allowH2C, concurrency(5))
	f := dialH2(t, s.addr)
	for id := uint32(1); id < 200; id += 2 {
		if err := f.open(id, fmt.Sprintf("/%d", id)); err != nil {
			t.Fatal(err)
		}
	}
	got := f.read(t, func(s *seen) bool { return len(s.ended) == 95 })
	if len(g.entered) != 5 || got.goAway {
		t.Errorf("%d handlers run; GOAWAY: %v", len(g.entered), got.goAway)
	}
	close(g.leave)
	f.read(t, func(s *seen) bool { return len(s.ended) == 5 })
}

// Frames that cost the client nothing: the connection ends, or they do.
func TestH2ControlFloods(t *testing.T) {
	for name, flood := range map[string]func(*xhttp2.Framer, uint32) error{
		"ping":         func(fr *xhttp2.Framer, _ uint32) error { return fr.WritePing(false, [8]byte{}) },
		"settings":     func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteSettings() },
		"continuation": func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteContinuation(1, false, make([]byte, 100)) },
		"no stream":    func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteWindowUpdate(0, 0) },
		"goaway":       func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteGoAway(0, xhttp2.ErrCodeInternal, nil) },
		"empty data":   func(fr *xhttp2.Framer, _ uint32) error { return fr.WriteData(1, false, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			log := &syncBuffer{}
			s := start(t, Options{Handler: handler(hello), Logger: slog.New(slog.NewTextHandler(log, nil))}, allowH2C,
				func(c *Config) { c.Timeout.Write = 200 * time.Millisecond })
			f := dialH2(t, s.addr)
			if name == "continuation" {
				if err := f.write(func(fr *xhttp2.Framer) error {
					return fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
				}); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f.framer.AllowIllegalWrites = true
			for i := range uint32(100_000) {
				if f.write(func(fr *xhttp2.Framer) error { return flood(fr, i) }) != nil {
					break // the answers are not read, and the server has had enough
				}
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
				t.Errorf("the heap has grown by %d bytes", grown)
			}
			if a := get(t, h2c(t), "http://"+s.addr+"/"); a.body != "hello" {
				t.Errorf("another client: %s", a.Status)
			}
			_ = f.Close()
			eventually(t, "end of the connection", func() bool { return total(s) <= 1 })
			if text := log.String(); text != "" {
				t.Errorf("anybody can fill the log: %s", text)
			}
		})
	}
}
