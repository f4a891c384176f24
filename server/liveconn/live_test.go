package liveconn

import (
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// situation is a connection in a phase that one of the timeouts limits.
type situation struct {
	name string
	set  func(*Timeouts, time.Duration)
	// enter brings a connection there and returns what is closed when the phase
	// is over.
	enter func(t *testing.T, s *service, handled chan struct{}) <-chan struct{}
	// handler; nil: hello.
	handler func(handled chan struct{}) http.HandlerFunc
}

const large = 1 << 20

func situations() []situation {
	header := func(t *Timeouts, d time.Duration) { t.ReadHeader = d }
	return []situation{
		{
			name: "half a header on a new connection", set: header,
			enter: func(t *testing.T, s *service, _ chan struct{}) <-chan struct{} {
				t.Helper()
				c := s.connect(t, "http/1.1")
				c.send(t, "GET / HTTP/1.1\nHost:")
				return c.ended()
			},
		},
		{
			name: "nothing on a new connection", set: header,
			enter: func(t *testing.T, s *service, _ chan struct{}) <-chan struct{} {
				t.Helper()
				return s.connect(t, "http/1.1").ended()
			},
		},
		{
			name: "half a header after an answer", set: header,
			enter: func(t *testing.T, s *service, _ chan struct{}) <-chan struct{} {
				t.Helper()
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				c.receive(t)
				time.Sleep(time.Minute) // idle
				c.send(t, "GET / HTTP/1.1\nHost:")
				return c.ended()
			},
		},
		{
			name: "one byte after an answer", set: header,
			enter: func(t *testing.T, s *service, _ chan struct{}) <-chan struct{} {
				t.Helper()
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				c.receive(t)
				time.Sleep(time.Minute)
				c.send(t, "G")
				return c.ended()
			},
		},
		{
			name: "half a header that came with the request before", set: header,
			enter: func(t *testing.T, s *service, _ chan struct{}) <-chan struct{} {
				t.Helper()
				c := s.connect(t, "http/1.1")
				c.send(t, get+"GET / HTTP/1.1\nHost:")
				c.receive(t)
				return c.ended()
			},
		},
		{
			name: "a body that does not go on", set: func(t *Timeouts, d time.Duration) { t.Read = d },
			enter: func(t *testing.T, s *service, handled chan struct{}) <-chan struct{} {
				t.Helper()
				s.connect(t, "http/1.1").send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nhalf")
				return handled
			},
			handler: func(handled chan struct{}) http.HandlerFunc {
				return func(_ http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadAll(r.Body); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
						close(handled)
					}
				}
			},
		},
		{
			name: "a client that does not read", set: func(t *Timeouts, d time.Duration) { t.Write = d },
			enter: func(t *testing.T, s *service, handled chan struct{}) <-chan struct{} {
				t.Helper()
				s.connect(t, "http/1.1").send(t, get)
				return handled
			},
			handler: func(handled chan struct{}) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					if _, err := w.Write(make([]byte, large)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
						close(handled)
					}
				}
			},
		},
		{
			name: "a client that does not read what comes in pieces", set: func(t *Timeouts, d time.Duration) { t.Write = d },
			enter: func(t *testing.T, s *service, handled chan struct{}) <-chan struct{} {
				t.Helper()
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				// It reads a little and then no more: the time goes on.
				go func() { _, _ = io.ReadFull(c.r, make([]byte, 100)) }()
				return handled
			},
			handler: func(handled chan struct{}) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					for {
						if _, err := w.Write(make([]byte, 1000)); err != nil {
							break
						}
					}
					close(handled)
				}
			},
		},
		{
			name: "an idle connection", set: func(t *Timeouts, d time.Duration) { t.Idle = d },
			enter: func(t *testing.T, s *service, _ chan struct{}) <-chan struct{} {
				t.Helper()
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				c.receive(t)
				return c.ended()
			},
		},
		{
			name: "a handler that runs", set: func(t *Timeouts, d time.Duration) { t.Request = d },
			enter: func(t *testing.T, s *service, handled chan struct{}) <-chan struct{} {
				t.Helper()
				s.connect(t, "http/1.1").send(t, get)
				return handled
			},
			handler: func(handled chan struct{}) http.HandlerFunc {
				return func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					close(handled)
				}
			},
		},
	}
}

// Each timeout counts from the start of its phase, with the value that is in
// force when it is over, also on connections that were open before the change.
func TestTimeoutsFollow(t *testing.T) {
	const second, never = time.Second, time.Duration(-1)
	for _, tr := range transports() {
		for _, st := range situations() {
			for _, tt := range []struct {
				name          string
				before, after time.Duration // the change comes 4 s into the phase
				want          time.Duration // from the start of the phase on
			}{
				{"unchanged", 10 * second, 10 * second, 10 * second},
				{"shorter", 10 * second, 6 * second, 6 * second},
				{"longer", 10 * second, 25 * second, 25 * second},
				{"over by the new one", 10 * second, 2 * second, 4 * second},
				{"none", 10 * second, 0, never},
				{"one where there was none", 0, 7 * second, 7 * second},
				{"none at all", 0, 0, never},
			} {
				t.Run(tr.name+"/"+st.name+"/"+tt.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { follow(t, tr, st, tt.before, tt.after, tt.want) })
				})
			}
		}
	}
}

func follow(t *testing.T, tr transport, st situation, before, after, want time.Duration) {
	t.Helper()
	var timeouts Timeouts
	st.set(&timeouts, before)
	handled := make(chan struct{})
	handler := hello
	if st.handler != nil {
		handler = st.handler(handled)
	}
	s := serve(t, tr, timeouts, handler)
	over := st.enter(t, s, handled)
	began := time.Now()
	synctest.Wait()
	time.Sleep(4 * time.Second)
	st.set(&timeouts, after)
	s.SetTimeouts(timeouts)
	synctest.Wait()
	if want < 0 {
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case <-over:
			t.Error("over after an hour without a limit")
		default:
		}
		_ = s.server.Close()
		return
	}
	<-over
	if took := time.Since(began); took != want {
		t.Errorf("over after %v, want %v", took, want)
	}
}
