package liveconn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func h2Transports() []transport {
	return []transport{{name: "h2c", h2c: true}, {name: "h2", tls: true}}
}

// h2Client speaks HTTP/2 frame by frame.
type h2Client struct {
	*client
	t      *testing.T
	mu     sync.Mutex // of the framer's writes
	framer *http2.Framer
	ended  chan struct{} // the server has closed the connection

	seen   sync.Mutex // guards what follows
	frames []string
	body   map[uint32]int // bytes of DATA
}

// h2 opens a connection, and is idle on it when it returns.
func (s *service) h2(t *testing.T, settings ...http2.Setting) *h2Client {
	t.Helper()
	c := &h2Client{client: s.connect(t, "h2"), t: t, ended: make(chan struct{}), body: map[uint32]int{}}
	c.framer = http2.NewFramer(c.Conn, c.r)
	c.mu.Lock() // what the reader writes comes after the preface
	go c.read()
	_, err := io.WriteString(c, http2.ClientPreface)
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.write(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
	synctest.Wait()
	return c
}

func (c *h2Client) write(f func(*http2.Framer) error) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f(c.framer); err != nil {
		c.t.Error(err)
	}
}

func (c *h2Client) read() {
	defer close(c.ended)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		word := ""
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.write(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
			}
		case *http2.GoAwayFrame:
			word = "goaway " + f.ErrCode.String()
			if f.LastStreamID != 1<<31-1 {
				word += ", not all streams"
			}
		case *http2.RSTStreamFrame:
			word = "reset " + f.ErrCode.String()
		case *http2.HeadersFrame:
			word = "headers"
		}
		c.seen.Lock()
		if word != "" {
			c.frames = append(c.frames, word)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			c.body[d.StreamID] += len(d.Data())
			if d.StreamEnded() {
				c.frames = append(c.frames, "end")
			}
		}
		c.seen.Unlock()
	}
}

func (c *h2Client) has(word string) bool {
	c.seen.Lock()
	defer c.seen.Unlock()
	return slices.Contains(c.frames, word)
}

// open starts a request; with a body, it stays open.
func (c *h2Client) open(stream uint32, body bool) {
	c.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	method := "GET"
	if body {
		method = "POST"
	}
	for _, h := range [][2]string{{":method", method}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: !body,
		})
	})
}

// at checks, some time from began on, whether something is so.
func at(t *testing.T, began time.Time, d time.Duration, what string, want bool, is func() bool) {
	t.Helper()
	time.Sleep(time.Until(began.Add(d)))
	synctest.Wait()
	if is() != want {
		t.Errorf("after %v: %s: %v, want %v", d, what, !want, want)
	}
}

func (c *h2Client) closed() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

const goAway = "goaway NO_ERROR"

func inEach(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tr := range h2Transports() {
		t.Run(tr.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, tr) }) })
	}
}

const tick = time.Millisecond

// An idle connection is told to leave by a GOAWAY that refuses nothing yet, and
// closed after a grace.
func TestH2Idle(t *testing.T) {
	for _, tt := range []struct {
		name                string
		before, after, want time.Duration // the change comes after 4 s
		request             bool          // a request comes first
	}{
		{"fresh", 10 * time.Second, 10 * time.Second, 10 * time.Second, false},
		{"after a request", 10 * time.Second, 10 * time.Second, 10 * time.Second, true},
		{"shorter", 10 * time.Second, 6 * time.Second, 6 * time.Second, true},
		{"longer", 10 * time.Second, 20 * time.Second, 20 * time.Second, true},
		{"over by the new one", 10 * time.Second, time.Second, 4 * time.Second, true},
		{"one where there was none", 0, 20 * time.Second, 20 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inEach(t, func(t *testing.T, tr transport) {
				t.Helper()
				s := serve(t, tr, Timeouts{Idle: tt.before}, hello)
				c := s.h2(t)
				if tt.request {
					time.Sleep(3 * time.Second)
					c.open(1, false)
					synctest.Wait()
				}
				began := time.Now()
				at(t, began, 4*time.Second-tick, "goaway", false, func() bool { return c.has(goAway) })
				time.Sleep(tick)
				s.SetTimeouts(Timeouts{Idle: tt.after})
				if tt.want > 4*time.Second {
					at(t, began, tt.want-tick, "goaway", false, func() bool { return c.has(goAway) })
				}
				at(t, began, tt.want, "goaway", true, func() bool { return c.has(goAway) })
				at(t, began, tt.want+goAwayGrace-tick, "closed", false, c.closed)
				at(t, began, tt.want+goAwayGrace, "closed", true, c.closed)
			})
		})
	}
}

func TestH2IdleWithoutLimit(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		s := serve(t, tr, Timeouts{Idle: time.Second}, hello)
		s.SetTimeouts(Timeouts{})
		c := s.h2(t)
		at(t, time.Now(), time.Hour, "goaway or closed", false, func() bool { return c.has(goAway) || c.closed() })
	})
}

// What was on its way when the connection was told to leave is served.
func TestH2RequestAfterGoAway(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		s := serve(t, tr, Timeouts{Idle: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			hello(w, r)
		})
		c := s.h2(t)
		began := time.Now()
		at(t, began, 11*time.Second, "goaway", true, func() bool { return c.has(goAway) })
		c.open(1, false)
		at(t, began, 71*time.Second-tick, "closed during the request", false, c.closed)
		at(t, began, 71*time.Second, "answer", true, func() bool { return c.has("end") })
		at(t, began, 71*time.Second+goAwayGrace, "closed after the grace", true, c.closed)
		if n := c.count(goAway); n != 1 {
			t.Errorf("%d GOAWAY", n)
		}
	})
}

func (c *h2Client) count(word string) int {
	c.seen.Lock()
	defer c.seen.Unlock()
	return strings.Count(strings.Join(c.frames, "\n"), word)
}

// Open streams keep the connection open, whatever the idle timeout says.
func TestH2StreamsAreNotIdle(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		s := serve(t, tr, Timeouts{Idle: time.Second, ReadHeader: time.Second}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			hello(w, r)
		})
		c := s.h2(t)
		c.open(1, false)
		s.SetTimeouts(Timeouts{Idle: time.Millisecond, ReadHeader: time.Millisecond})
		at(t, time.Now(), time.Hour, "answer", true, func() bool { return c.has("end") })
	})
}

// A body that does not go on ends by itself, and alone.
func TestH2Body(t *testing.T) {
	for _, tt := range []struct {
		name                string
		before, after, want time.Duration // the change comes after 4 s
	}{
		{"unchanged", 10 * time.Second, 10 * time.Second, 10 * time.Second},
		{"shorter", 10 * time.Second, 6 * time.Second, 6 * time.Second},
		{"longer", 10 * time.Second, 20 * time.Second, 20 * time.Second},
		{"over by the new one", 10 * time.Second, time.Second, 4 * time.Second},
		{"one where there was none", 0, 20 * time.Second, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inEach(t, func(t *testing.T, tr transport) {
				t.Helper()
				handled := make(chan error, 10)
				s := serve(t, tr, Timeouts{Read: tt.before}, func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						time.Sleep(time.Minute)
						hello(w, r)
						return
					}
					_, err := io.ReadAll(r.Body)
					handled <- err
				})
				c := s.h2(t)
				c.open(1, false)
				c.open(3, true)
				began := time.Now()
				time.Sleep(4 * time.Second)
				s.SetTimeouts(Timeouts{Read: tt.after})
				if err := <-handled; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the body ends with %v", err)
				}
				if took := time.Since(began); took != tt.want {
					t.Errorf("over after %v, want %v", took, tt.want)
				}
				at(t, began, time.Minute, "answer of the other stream", true, func() bool { return c.body[1] == len("hello") })
			})
		})
	}
}

// A client that grants no window does not hold an answer for ever: not that of a
// handler that still writes, nor what is left when it has returned.
func TestH2Answer(t *testing.T) {
	noWindow := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}
	reset := "reset INTERNAL_ERROR"
	t.Run("written", func(t *testing.T) {
		inEach(t, func(t *testing.T, tr transport) {
			t.Helper()
			handled := make(chan error, 1)
			s := serve(t, tr, Timeouts{Write: 10 * time.Second}, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Minute) // does not count
				_, err := w.Write(make([]byte, large))
				handled <- err
			})
			c := s.h2(t, noWindow)
			c.open(1, false)
			began := time.Now()
			time.Sleep(time.Minute + 4*time.Second)
			s.SetTimeouts(Timeouts{Write: 20 * time.Second})
			if err := <-handled; err == nil {
				t.Error("a write without a window succeeds")
			}
			if took := time.Since(began); took != time.Minute+20*time.Second {
				t.Errorf("over after %v", took)
			}
			at(t, time.Now(), time.Second, "reset", true, func() bool { return c.has(reset) })
		})
	})
	t.Run("left", func(t *testing.T) {
		inEach(t, func(t *testing.T, tr transport) {
			t.Helper()
			s := serve(t, tr, Timeouts{Write: 10 * time.Second}, hello)
			c := s.h2(t, noWindow)
			c.open(1, false)
			synctest.Wait()
			began := time.Now()
			at(t, began, 10*time.Second-tick, "reset", false, func() bool { return c.has(reset) })
			at(t, began, 10*time.Second, "reset", true, func() bool { return c.has(reset) })
		})
	})
}

// A connection whose client does not read at all ends with the write timeout of
// a single write.
func TestH2StalledConnection(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		gone := make(chan struct{})
		s := serve(t, tr, Timeouts{Write: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(make([]byte, large))
			<-r.Context().Done()
			close(gone)
		})
		c := &h2Client{client: s.connect(t, "h2"), t: t}
		c.framer = http2.NewFramer(c.Conn, c.r)
		go func() { _, _ = io.ReadFull(c.r, make([]byte, 200)) }() // the first frames, and no more
		if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		c.write(func(f *http2.Framer) error { return f.WriteSettings() })
		c.open(1, false)
		began := time.Now()
		<-gone
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("over after %v", took)
		}
	})
}

// One timer serves all requests of a connection.
func TestH2RequestTime(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		var mu sync.Mutex
		var took []time.Duration
		s := serve(t, tr, Timeouts{Request: 10 * time.Second}, func(_ http.ResponseWriter, r *http.Request) {
			began := time.Now()
			<-r.Context().Done()
			if err := r.Context().Err(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the context ends with %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
		})
		c := s.h2(t)
		for i := range 5 {
			c.open(uint32(2*i+1), false)
			time.Sleep(time.Second)
		}
		s.SetTimeouts(Timeouts{Request: 7 * time.Second})
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(took) != 5 {
			t.Fatalf("%d of 5 requests have ended", len(took))
		}
		for _, d := range took {
			if d != 7*time.Second {
				t.Errorf("ended after %v", d)
			}
		}
	})
}

// A client that says that it speaks HTTP/2, and then nothing, has the time of a
// header.
func TestH2WithoutPreface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{tls: true}, Timeouts{ReadHeader: 5 * time.Second}, hello)
		began := time.Now()
		<-s.connect(t, "h2").ended()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{h2c: true}, Timeouts{ReadHeader: 5 * time.Second}, hello)
		c := s.connect(t, "")
		began := time.Now()
		c.send(t, "PRI * HTTP/2.0\n\nS")
		<-c.ended()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// The kind is known as soon as the client has told.
func TestKinds(t *testing.T) {
	for _, tr := range []transport{{name: "plain", h2c: true}, {name: "tls", tls: true}} {
		t.Run(tr.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, tr, Timeouts{}, hello)
				s.h2(t)
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				c.receive(t)
				synctest.Wait()
				for class, n := range s.Counts() {
					want := 0
					if class.State == StateIdle {
						want = 1
					}
					if n != want {
						t.Errorf("%d of %v, want %d", n, class, want)
					}
				}
			})
		})
	}
}

// A drain tells idle connections to leave at once, and closes them after the
// linger.
func TestH2Drain(t *testing.T) {
	inEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		s := serve(t, tr, Timeouts{Idle: time.Hour}, hello)
		c := s.h2(t)
		time.Sleep(time.Minute)
		began := time.Now()
		s.Drain()
		next := s.CloseIdle(time.Now(), began, time.Second)
		at(t, began, 0, "goaway", true, func() bool { return c.has(goAway) })
		at(t, began, next.Sub(began)-tick, "closed", false, c.closed)
		time.Sleep(tick)
		s.CloseIdle(time.Now(), began, time.Second)
		at(t, began, time.Second, "closed", true, c.closed)
		if !s.Empty() {
			t.Error("the connection is still registered")
		}
	})
}
