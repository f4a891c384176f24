package liveconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A slow body with a read deadline of the handler's own is not held against the
// answer, nor is the invitation to send it.
func TestAnswerTimeAfterAnOwnReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{}, Timeouts{Write: time.Second}, func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			hello(w, r)
		})
		c := s.connect(t, "http/1.1")
		c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 4\nExpect: 100-continue\n\n")
		c.receive(t) // 100 Continue
		time.Sleep(time.Minute)
		c.send(t, "body")
		if body := c.receive(t); body != "hello" {
			t.Errorf("answer %q", body)
		}
	})
}

// Early hints are not the answer.
func TestAnswerTimeAfterEarlyHints(t *testing.T) {
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, tr, Timeouts{Write: time.Second}, func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(http.StatusEarlyHints)
					time.Sleep(time.Minute)
					hello(w, r)
				})
				c := s.connect(t, "http/1.1")
				c.send(t, get)
				c.receive(t) // 103
				if body := c.receive(t); body != "hello" {
					t.Errorf("answer %q", body)
				}
			})
		})
	}
}

// Bytes of the body that arrive while an answer is being written do not take its
// time away, nor give it more.
func TestAnswerTimeInFullDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := serve(t, transport{}, Timeouts{Write: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			go func() { _, _ = io.Copy(io.Discard, r.Body) }()
			_, err := w.Write(make([]byte, large))
			ended <- err
		})
		c := s.connect(t, "http/1.1")
		c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 8\n\nhalf")
		began := time.Now()
		time.Sleep(time.Second)
		c.send(t, "x") // the write is blocked
		synctest.Wait()
		s.SetTimeouts(Timeouts{Write: 20 * time.Second})
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the write ended with %v", err)
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it took %v", took)
		}
		_ = c.Close()
	})
}

// The time that a client takes in the handshake is not that of a write.
func TestHandshakeIsNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{tls: true}, Timeouts{Write: time.Second, ReadHeader: 10 * time.Second}, hello)
		config := s.certs.Clone()
		config.MaxVersion = tls.VersionTLS12
		config.VerifyConnection = func(tls.ConnectionState) error { time.Sleep(2 * time.Second); return nil }
		secure := tls.Client(s.pipes.dial(t), config)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// lateSource is something to copy from that has a deadline of its own.
type lateSource struct{}

func (lateSource) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
}

// copier is a connection below that copies for itself.
type copier struct{ *lateConn }

func (copier) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// The deadline of the source of a copy is not the client's.
func TestTimeoutOfASource(t *testing.T) {
	c := NewRegistry(Timeouts{Write: time.Hour}).add(copier{&lateConn{}}, ListenerOptions{})
	c.to(http.StateActive)
	if _, err := c.ReadFrom(lateSource{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("copy: %v", err)
	}
	if _, err := c.Write([]byte("sorry")); err != nil {
		t.Errorf("the client pays for the source: %v", err)
	}
}

// On HTTP/2 each write has the whole time, and no more.
func TestH2WriteTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := NewRegistry(Timeouts{Write: 10 * time.Second}).add(theirs, ListenerOptions{})
		c.h2.on = true
		c.to(http.StateActive)
		go func() { _, _ = io.ReadFull(ours, make([]byte, 1)) }()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		began := time.Now()
		if _, err := c.Write([]byte("y")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_, _ = ours.Close(), theirs.Close()
	})
}

// Whoever has taken a connection over finds none of our deadlines on the one
// below, and the own ones there at once.
func TestHijackedConnectionBelow(t *testing.T) {
	for name, request := range map[string]string{
		"a request": get, "the preface of HTTP/2, which is not spoken": "PRI * HTTP/2.0\n\nSM\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				taken := make(chan net.Conn, 1)
				s := serve(t, transport{}, Timeouts{ReadHeader: time.Second, Write: time.Second}, func(w http.ResponseWriter, _ *http.Request) {
					nc, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
					}
					taken <- nc
				})
				c := s.connect(t, "")
				c.send(t, request)
				nc := <-taken
				below := nc.(*Conn).NetConn()
				go func() {
					time.Sleep(time.Minute)
					c.send(t, "ok")
					_, _ = io.ReadFull(c.r, make([]byte, 2))
				}()
				if _, err := io.ReadFull(below, make([]byte, 2)); err != nil {
					t.Errorf("read on the connection below: %v", err)
				}
				if _, err := nc.Write([]byte("ok")); err != nil {
					t.Errorf("write: %v", err)
				}
				if err := nc.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := below.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("read with an own deadline: %v", err)
				}
				_ = nc.Close()
			})
		})
	}
}

// A context that has ended does not change its mind about why.
func TestErrIsStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, transport{}, Timeouts{Request: time.Second}, func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(500 * time.Millisecond)
			first := r.Context().Err()
			time.Sleep(time.Second)
			if second := r.Context().Err(); first == nil || !errors.Is(second, first) {
				t.Errorf("Err was %v and is %v", first, second)
			}
		})
		c := s.connect(t, "http/1.1")
		c.send(t, get)
		_ = c.Close()
		time.Sleep(time.Minute)
	})
}
