package liveconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// onTCP lets clients reach the service by a real socket. It returns the address.
func (s *service) onTCP(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			select {
			case s.pipes.conns <- nc:
			case <-s.pipes.closed:
				_ = nc.Close()
			}
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		accepting.Wait()
	})
	return ln.Addr().String()
}

// httpClient is one with connections of its own.
func (s *service) httpClient(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	protocols.SetUnencryptedHTTP2(h2 && !s.transport.tls)
	tr := &http.Transport{Protocols: &protocols}
	if s.transport.tls {
		tr.TLSClientConfig = s.certs.Clone()
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// pieces hands a body out in parts and with pauses, and cannot be read again.
type pieces struct {
	rest  []byte
	piece int
	pause time.Duration
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	time.Sleep(p.pause)
	n := copy(b[:min(len(b), p.piece)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// randomBody is a body that is not like another.
func randomBody(r *rand.Rand, most int) []byte {
	b := make([]byte, r.IntN(most))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// echo answers with the body, in parts.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for len(body) > 0 {
		n := min(len(body), 3000)
		if _, err := w.Write(body[:n]); err != nil {
			return
		}
		body = body[n:]
	}
}

// post sends a body that cannot be sent again, and compares the answer.
func post(ctx context.Context, client *http.Client, url string, body io.Reader, want []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		return fmt.Errorf("status %d, %d bytes, want %d, or others", res.StatusCode, len(got), len(want))
	}
	return nil
}

// pipeline sends some requests glued together, cut anywhere, and compares the
// answers.
func pipeline(c *client, r *rand.Rand) error {
	var out bytes.Buffer
	bodies := make([][]byte, 1+r.IntN(4))
	for i := range bodies {
		bodies[i] = randomBody(r, 9000)
		fmt.Fprintf(&out, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(bodies[i]), bodies[i])
	}
	sent := make(chan error, 1)
	go func() {
		for out.Len() > 0 {
			if _, err := c.Write(out.Next(1 + r.IntN(6000))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for _, want := range bodies {
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			return errors.Join(err, c.Close(), <-sent)
		}
		got, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			return errors.Join(err, c.Close(), <-sent)
		}
		if !bytes.Equal(got, want) {
			return errors.Join(fmt.Errorf("%d bytes, want %d, or others", len(got), len(want)), c.Close(), <-sent)
		}
	}
	return <-sent
}

// Timeouts that the load does not reach may change as often as they like: no
// request notices. Afterwards a drain ends all connections.
func TestHammer(t *testing.T) {
	const (
		load    = 1500 * time.Millisecond
		clients = 4 // of each sort
	)
	for _, tr := range []transport{{name: "plain", h2c: true}, {name: "tls", tls: true}} {
		t.Run(tr.name, func(t *testing.T) {
			s := serve(t, tr, Timeouts{time.Minute, time.Minute, time.Minute, time.Minute, time.Minute}, echo)
			address := s.onTCP(t)
			url := "http://" + address
			if tr.tls {
				url = "https://" + address
			}
			ctx, cancel := context.WithTimeout(t.Context(), load)
			defer cancel()
			var all sync.WaitGroup
			var requests, changes atomic.Int64
			hammer := func(seed uint64, one func(*rand.Rand) error) {
				all.Go(func() {
					r := rand.New(rand.NewPCG(seed, 1))
					for ctx.Err() == nil {
						if err := one(r); err != nil {
							t.Errorf("request: %v", err)
							return
						}
						requests.Add(1)
						time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
					}
				})
			}
			for i := range clients {
				for _, h2 := range []bool{false, true} {
					client := s.httpClient(t, h2)
					hammer(uint64(i), func(r *rand.Rand) error {
						body := randomBody(r, 50_000)
						piece := &pieces{rest: body, piece: 1 + r.IntN(20_000), pause: time.Duration(r.IntN(300)) * time.Microsecond}
						return post(t.Context(), client, url, piece, body)
					})
				}
				var nc net.Conn
				var err error
				if tr.tls {
					config := s.certs.Clone()
					config.NextProtos = []string{"http/1.1"}
					nc, err = (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", address)
				} else {
					nc, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = nc.Close() })
				c := newClient(nc)
				hammer(uint64(i), func(r *rand.Rand) error { return pipeline(c, r) })
			}
			all.Go(func() {
				r := rand.New(rand.NewPCG(1, 2))
				value := func() time.Duration {
					if r.IntN(5) == 0 {
						return 0
					}
					return time.Minute + time.Duration(r.IntN(3600))*time.Second
				}
				for ctx.Err() == nil {
					s.SetTimeouts(Timeouts{value(), value(), value(), value(), value()})
					changes.Add(1)
					if r.IntN(10) == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			})
			all.Wait()
			t.Logf("%d requests or pipelines, %d changes", requests.Load(), changes.Load())
			if requests.Load() == 0 || changes.Load() < 100 {
				t.Error("nothing was hammered")
			}
			s.drainAll(t)
		})
	}
}

// drainAll ends the idle connections.
func (s *service) drainAll(t *testing.T) {
	t.Helper()
	s.Drain(time.Time{}, 0)
	began := time.Now()
	for !s.Empty() {
		s.CloseIdle(time.Now(), began, 10*time.Millisecond, time.Time{})
		select {
		case <-s.Changed():
		case <-time.After(10 * time.Millisecond):
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("after a minute of drain: %v", s.Counts())
		}
	}
	for class, n := range s.Counts() {
		if n != 0 {
			t.Errorf("%d of %v in an empty registry", n, class)
		}
	}
}

// lost reports an error by which net/http's client says that a request met the
// end of its connection and may not be sent twice.
func lost(err error) bool {
	return strings.Contains(err.Error(), "http2: Transport: cannot retry err") ||
		strings.Contains(err.Error(), "net/http: cannot rewind body after connection loss")
}

// ledger is what became of the requests of a hammer.
type ledger struct {
	sent, lost, connections atomic.Int64

	mu       sync.Mutex
	executed map[string]int
}

func (l *ledger) echo(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.executed[r.URL.RawQuery]++
	l.mu.Unlock()
	echo(w, r)
}

// hammer sends bursts of POSTs with pauses around that after which the server
// tells connections to leave. wrong gets the errors that are not those of
// lost.
func (l *ledger) hammer(ctx context.Context, clients []*http.Client, url string, wrong func(error)) {
	hammering, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for i, client := range clients {
		dialer := &net.Dialer{}
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			l.connections.Add(1)
			return dialer.DialContext(ctx, network, address)
		}
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for n := 0; hammering.Err() == nil; n++ {
				var burst sync.WaitGroup
				for k := range 1 + r.IntN(4) {
					body := randomBody(r, 6000)
					piece := &pieces{rest: body, piece: 1 + r.IntN(6000)}
					burst.Go(func() {
						l.sent.Add(1)
						err := post(ctx, client, fmt.Sprintf("%s/?%d-%d-%d", url, i, n, k), piece, body)
						switch {
						case err == nil:
						case lost(err):
							l.lost.Add(1)
						default:
							wrong(err)
						}
					})
				}
				burst.Wait()
				time.Sleep(hammeredIdle - 2*time.Millisecond + time.Duration(r.IntN(4000))*time.Microsecond)
			}
		})
	}
	all.Wait()
}

const hammeredIdle = 60 * time.Millisecond

// Where idle connections are told to leave in the very moment in which clients
// send on them, no frame is cut, no answer is wrong, nothing is executed twice,
// and what is lost is lost as the client documents it.
func TestHammerGoAway(t *testing.T) {
	for _, tr := range h2Transports() {
		t.Run(tr.name, func(t *testing.T) {
			l := &ledger{executed: map[string]int{}}
			s := serve(t, tr, Timeouts{Idle: hammeredIdle}, l.echo)
			url := "http://" + s.onTCP(t)
			if tr.tls {
				url = strings.Replace(url, "http:", "https:", 1)
			}
			var clients []*http.Client
			for range 24 {
				clients = append(clients, s.httpClient(t, true))
			}
			l.hammer(t.Context(), clients, url, func(err error) { t.Errorf("request: %v", err) })
			t.Logf("%d POSTs on %d connections, %d lost", l.sent.Load(), l.connections.Load(), l.lost.Load())
			if l.connections.Load() == int64(len(clients)) {
				t.Error("no connection was told to leave")
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if int64(len(l.executed)) < l.sent.Load()-l.lost.Load() {
				t.Errorf("of %d requests %d were executed, and %d lost", l.sent.Load(), len(l.executed), l.lost.Load())
			}
			for id, n := range l.executed {
				if n != 1 {
					t.Errorf("%s was executed %d times", id, n)
				}
			}
		})
	}
}
