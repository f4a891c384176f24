package rivals

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// clients are connections that send one request over and over, as fast as they
// can or at a rate, and read the whole answer each time.
type clients struct {
	conns   []*clientConn
	request []byte
}

type clientConn struct {
	net.Conn
	r *bufio.Reader
}

// answerTimeout is more than any answer here takes.
const answerTimeout = 20 * time.Second

// requestOf makes a request with a body of some bytes; without one it is a GET.
func requestOf(body int) []byte {
	if body == 0 {
		return []byte("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: rivals\r\nAccept: */*\r\n\r\n")
	}
	head := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: rivals\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n", body)
	return append(head, bytes.Repeat([]byte("x"), body)...)
}

// connect opens n connections; with roots, by TLS.
func connect(ctx context.Context, address string, roots []byte, n, body int) (*clients, error) {
	c := &clients{request: requestOf(body)}
	var config *tls.Config
	if roots != nil {
		config = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
		config.RootCAs.AppendCertsFromPEM(roots)
	}
	var d net.Dialer
	for range n {
		nc, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect: %w", err), c.close())
		}
		if config != nil {
			secure := tls.Client(nc, config)
			if err := secure.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(fmt.Errorf("connect: %w", err), nc.Close(), c.close())
			}
			nc = secure
		}
		c.conns = append(c.conns, &clientConn{nc, bufio.NewReader(nc)})
	}
	return c, nil
}

func (c *clients) close() error {
	var errs []error
	for _, nc := range c.conns {
		errs = append(errs, nc.Close())
	}
	return errors.Join(errs...)
}

// each runs f for every connection at once.
func (c *clients) each(f func(*clientConn) error) error {
	errs := make([]error, len(c.conns))
	var running sync.WaitGroup
	for i, nc := range c.conns {
		running.Go(func() { errs[i] = f(nc) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// send sends n requests on each connection, one after the other.
func (c *clients) send(ctx context.Context, n int) error {
	return c.each(func(nc *clientConn) error {
		if err := nc.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
		for i := range n {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if err := nc.exchange(c.request); err != nil {
				return err
			}
		}
		return nil
	})
}

// pace sends at an interval on each connection for a time, and records how long
// each answer took from when its request was due: a pause of the server counts
// for all requests that were due in it.
func (c *clients) pace(ctx context.Context, interval, length time.Duration) (*hdrhistogram.Histogram, error) {
	var mu sync.Mutex
	all := hdrhistogram.New(1, longest.Nanoseconds(), 3)
	began := time.Now()
	err := c.each(func(nc *clientConn) error {
		if err := nc.SetDeadline(time.Now().Add(length + answerTimeout)); err != nil {
			return err
		}
		h := hdrhistogram.New(1, longest.Nanoseconds(), 3)
		timer := time.NewTimer(0)
		defer timer.Stop()
		for due := began; due.Sub(began) < length; due = due.Add(interval) {
			timer.Reset(time.Until(due))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := nc.exchange(c.request); err != nil {
				return err
			}
			if err := h.RecordValue(min(max(time.Since(due), 1), longest).Nanoseconds()); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all.Merge(h)
		return nil
	})
	return all, err
}

var errAnswer = errors.New("the answer is not 200 with a length")

// exchange sends a request and reads its answer.
func (nc *clientConn) exchange(request []byte) error {
	if _, err := nc.Write(request); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	length := -1
	for first := true; ; first = false {
		line, err := nc.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return errAnswer
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return errAnswer
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length < 0 {
		return errAnswer
	}
	if _, err := io.CopyN(io.Discard, nc.r, int64(length)); err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	return nil
}
