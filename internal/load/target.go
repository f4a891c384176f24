package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Target is where requests go, and how.
type Target struct {
	Network string // "tcp" or "unix"
	Address string
	Path    string      // "" is "/"
	TLS     *tls.Config // nil: none. It must name or know the server; NextProtos is set here
	HTTP2   bool        // only with TLS
	// Foreign says that the server does not answer as Handler does: any answer with
	// 200 is the right one, and what was executed is in no record. That nobody gets
	// the answer of another is not seen then.
	Foreign bool
}

// The protocols as ALPN calls them (RFC 7301, RFC 9113 3.1).
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

func (t Target) validate() error {
	switch {
	case t.Network != "tcp" && t.Network != "unix":
		return errors.New("load: the target's network is neither tcp nor unix")
	case t.Address == "":
		return errors.New("load: the target has no address")
	case t.HTTP2 && t.TLS == nil:
		return errors.New("load: HTTP/2 without TLS is not supported")
	}
	return nil
}

// dialer opens connections to one target.
type dialer struct {
	Target
	transport *http.Transport // for HTTP/2
}

func newDialer(t Target) *dialer {
	if t.Path == "" {
		t.Path = "/"
	}
	if t.TLS != nil {
		t.TLS = t.TLS.Clone()
		t.TLS.NextProtos = []string{alpnHTTP1}
		if host, _, err := net.SplitHostPort(t.Address); err == nil && t.TLS.ServerName == "" {
			t.TLS.ServerName = host
		}
	}
	d := &dialer{Target: t}
	if t.HTTP2 {
		d.TLS.NextProtos = []string{alpnHTTP2}
		var protocols http.Protocols
		protocols.SetHTTP2(true)
		d.transport = &http.Transport{
			Protocols: &protocols, TLSClientConfig: d.TLS,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) },
		}
	}
	return d
}

// dial opens a connection below TLS.
func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	var nd net.Dialer
	return nd.DialContext(ctx, d.Network, d.Address)
}

// open opens a connection that requests can be sent on. With last, the first
// request is the only one, and an HTTP/1.1 server is told so.
func (d *dialer) open(ctx context.Context, timeout time.Duration, last bool) (conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if d.HTTP2 {
		return openStream(ctx, d, timeout)
	}
	nc, err := d.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if d.TLS != nil {
		secure := tls.Client(nc, d.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("connect: %w", err), nc.Close())
		}
		nc = secure
	}
	return newWire(nc, d.Target, timeout, last), nil
}

// conn is one connection. Its methods are for one goroutine.
type conn interface {
	// send sends a POST with that id, or a GET for 0, and waits for the answer. An
	// error is a failure, but for errNotSent; the connection is of no more use then.
	send(ctx context.Context, id uint64) (answer, error)
	// ended reports whether the server has ended the connection or wants no more
	// requests on it.
	ended() bool
	// close ends the connection and waits for what runs for it. It returns what
	// came that nobody had asked for.
	close() error
}

// answer is the answer to one request.
type answer struct {
	id   uint64
	pid  int
	last bool // the server wants no more requests on this connection
}
