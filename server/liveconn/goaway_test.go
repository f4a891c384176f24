package liveconn

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// net/http calls a connection idle before it has flushed its last frames. A
// GOAWAY comes after them.
func TestGoAwayComesAfterTheLastFrame(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		release := make(chan struct{})
		s := serve(t, tr, Timeouts{}, func(w http.ResponseWriter, r *http.Request) {
			<-release
			hello(w, r)
		})
		idles := 0
		s.server.ConnState = func(nc net.Conn, state http.ConnState) {
			s.ConnState(nc, state)
			if state == http.StateIdle {
				if idles++; idles == 2 {
					time.Sleep(10 * time.Millisecond) // a busy machine
				}
			}
		}
		c := s.h2(t)
		c.open(1, false)
		synctest.Wait()
		began := time.Now()
		s.Drain(time.Time{}, 0)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			for !s.Empty() {
				s.CloseIdle(time.Now(), began, time.Second, time.Time{})
				time.Sleep(time.Millisecond)
			}
		}()
		close(release)
		<-c.ended
		<-drained
		c.seen.Lock()
		defer c.seen.Unlock()
		if got := strings.Join(c.frames, ", "); got != "headers, end, "+goAway {
			t.Errorf("frames: %s", got)
		}
	})
}

// A second GOAWAY must not name a higher last stream than the first (RFC 9113
// section 6.8). The first one here is that of net/http, for an answer with
// "Connection: close".
func TestGoAwayIsNotRaised(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		release := make(chan struct{})
		s := serve(t, tr, Timeouts{Idle: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
			<-release
			w.Header().Set("Connection", "close") // as a server does in a drain
			hello(w, r)
		})
		c := s.h2(t)
		c.open(1, false)
		synctest.Wait()
		s.Drain(time.Time{}, 0)
		began := time.Now()
		close(release)
		synctest.Wait()
		for range 9 {
			s.CloseIdle(time.Now(), began, time.Second, time.Time{})
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		c.seen.Lock()
		defer c.seen.Unlock()
		words := slices.DeleteFunc(slices.Clone(c.frames), func(f string) bool { return !strings.HasPrefix(f, "goaway") })
		if !slices.Equal(words, []string{goAway + ", not all streams"}) {
			t.Errorf("GOAWAYs: %q", words)
		}
	})
}

// Answers that end together while a drain looks on are whole, on a real socket.
func TestGoAwayCutsNoFrame(t *testing.T) {
	const connections, streams = 40, 8
	for i := range connections {
		endsTogether(t, streams, 1500+i%7*300)
	}
}

// endsTogether has some answers of a connection end at once in a drain, and
// reads the frames.
func endsTogether(t *testing.T, streams, size int) {
	t.Helper()
	r := NewRegistry(Timeouts{Idle: time.Minute, ReadHeader: time.Minute, Write: time.Minute})
	release := make(chan struct{})
	var started sync.WaitGroup
	started.Add(streams)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	idles := 0
	s := &http.Server{
		Protocols: &protocols, ConnContext: r.ConnContext, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		ConnState: func(nc net.Conn, state http.ConnState) {
			r.ConnState(nc, state)
			if state == http.StateIdle {
				if idles++; idles == 2 {
					time.Sleep(5 * time.Millisecond) // a busy machine
				}
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			started.Done()
			<-release
			_, _ = w.Write(make([]byte, size))
		}),
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(r.Listener(ln, ListenerOptions{H2C: true})) })
	defer running.Wait()
	defer func() { _ = s.Close() }()

	var d net.Dialer
	nc, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	f := http2.NewFramer(nc, nc)
	request(t, nc, f, streams)
	started.Wait()
	r.Drain(time.Time{}, 0)
	stop := make(chan struct{})
	defer close(stop)
	began := time.Now()
	running.Go(func() {
		for {
			r.CloseIdle(time.Now(), began, time.Second, time.Time{})
			select {
			case <-r.Changed():
			case <-time.After(10 * time.Millisecond):
			case <-stop:
				return
			}
		}
	})
	close(release)
	if err := nc.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for got, ends, told := 0, 0, false; !told || ends < streams; {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("after %d answers of %d and %d bytes: %v", ends, streams, got, err)
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			got += len(frame.Data())
			if bytes.ContainsFunc(frame.Data(), func(r rune) bool { return r != 0 }) {
				t.Fatal("foreign bytes in an answer")
			}
			if frame.StreamEnded() {
				ends++
			}
		case *http2.GoAwayFrame:
			told = true
		}
	}
}

// request opens streams with a GET each.
func request(t *testing.T, nc net.Conn, f *http2.Framer, streams int) {
	t.Helper()
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}} {
			if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
}
