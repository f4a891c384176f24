package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// stream is a connection of HTTP/2, with one request at a time.
type stream struct {
	cc      *http.ClientConn
	url     string
	timeout time.Duration
	foreign bool
}

func openStream(ctx context.Context, d *dialer, timeout time.Duration) (conn, error) {
	authority := "localhost:443" // for a unix socket; dial knows better
	if d.Network == "tcp" {
		authority = d.Address
	}
	cc, err := d.transport.NewClientConn(ctx, "https", authority)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &stream{cc, "https://" + authority + d.Path, timeout, d.Foreign}, nil
}

// once is a body that cannot be read again, so that nothing can be sent a second
// time.
type once struct{ io.Reader }

func (s *stream) send(ctx context.Context, id uint64) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	text := strconv.FormatUint(id, 10)
	if id != 0 {
		method, body = http.MethodPost, once{strings.NewReader(text)}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url, body)
	if err != nil {
		return answer{}, err
	}
	if id != 0 {
		req.ContentLength = int64(len(text))
		req.Header.Set(idHeader, text)
		req.Header.Set("Content-Type", "text/plain")
	}
	res, err := s.cc.RoundTrip(req)
	if err != nil {
		return answer{}, streamFailure(err)
	}
	a, err := parseAnswer(res, s.foreign)
	if err != nil {
		return answer{}, err
	}
	a.last = s.ended()
	return checkAnswer(reception{a, nil}, id, s.foreign)
}

// streamFailure says what an error of RoundTrip is. net/http has no values for
// the two that matter, only words.
func streamFailure(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "client conn not usable"):
		return errNotSent
	case strings.Contains(text, "GOAWAY"):
		return &failure{GoAway, err}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{Timeout, err}
	case errors.Is(err, context.Canceled):
		return err
	}
	return &failure{Receive, err}
}

func (s *stream) ended() bool { return s.cc.Err() != nil || s.cc.Available() == 0 }

func (s *stream) close() error {
	_ = s.cc.Close() // its errors are those of a connection that is no longer wanted
	return nil
}
