package liveconn

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

func h2Transports() []transport {
	return []transport{{name: "h2c", h2c: true}, {name: "h2", tls: true}}
}

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
		s.Drain(time.Time{}, 0)
		next := s.CloseIdle(time.Now(), began, time.Second, time.Time{})
		at(t, began, 0, "goaway", true, func() bool { return c.has(goAway) })
		at(t, began, next.Sub(began)-tick, "closed", false, c.closed)
		time.Sleep(tick)
		s.CloseIdle(time.Now(), began, time.Second, time.Time{})
		at(t, began, time.Second, "closed", true, c.closed)
		if !s.Empty() {
			t.Error("the connection is still registered")
		}
	})
}
