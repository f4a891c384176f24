package configsrctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

const (
	// requestCap is the number of requests that a test may make, and instantCap
	// that at one moment of time: a driver that spins stops the virtual clock,
	// so that nothing else would ever end the test.
	requestCap = 20_000
	instantCap = 1000
)

// Transport is a network in memory: an [http.RoundTripper] that hands requests
// to handlers, and fails in the ways that networks and servers do. It works
// inside a testing/synctest bubble.
//
// Its faults have the meaning, and mostly the names, of the hooks of [Backend].
// They hold for the host that it was made for.
type Transport struct {
	tb      testing.TB
	host    string
	handler http.Handler
	latency time.Duration

	mu       sync.Mutex
	requests int
	open     int
	strayed  int
	instant  time.Time
	inst     int // requests at instant
	spun     bool
	fault    fault
	skip     int // answers left before fault strikes
}

var _ http.RoundTripper = (*Transport)(nil)

type fault int

const (
	none    fault = iota
	refuse        // no connection
	fail          // 500, once
	hang          // no answer
	stall         // half a body, then nothing
	cut           // half a body, then the end of the connection
	page          // 200 and a login page
	partial       // 200 and half a body that ends as if whole
	move          // to another host
)

// NewTransport returns a network on which handler serves host. Every request
// takes latency before the handler sees it.
func NewTransport(tb testing.TB, host string, latency time.Duration, handler http.Handler) *Transport {
	tb.Helper()
	return &Transport{tb: tb, host: host, handler: handler, latency: latency}
}

// Requests is the number of requests made so far.
func (n *Transport) Requests() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.requests
}

// Open is the number of requests that are not over: the handler runs, or the
// client has neither read nor closed the body.
func (n *Transport) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open
}

// Down refuses connections until Up. Requests that wait at the host are cut.
func (n *Transport) Down() { n.set(refuse, 0) }

// Up ends every fault.
func (n *Transport) Up() { n.set(none, 0) }

// Fail answers one request with a server error, after skip more answers.
func (n *Transport) Fail(skip int) { n.set(fail, skip) }

// Hang answers nothing after skip more answers, until Up.
func (n *Transport) Hang(skip int) { n.set(hang, skip) }

// Stall sends half of each body and no more, until Up.
func (n *Transport) Stall() { n.set(stall, 0) }

// Redirect sends every request to another host until Up. The func it returns
// counts the requests that came there.
func (n *Transport) Redirect() (strayed func() int) {
	n.set(move, 0)
	return func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.strayed
	}
}

// Garble is for [Backend].Garble.
func (n *Transport) Garble() map[string]func() {
	return map[string]func(){
		"half a body and a broken connection": func() { n.set(cut, 0) },
		"half a body that looks whole":        func() { n.set(partial, 0) },
		"a login page":                        func() { n.set(page, 0) },
		"server errors": func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.fault, n.skip = fail, -1
		},
	}
}

func (n *Transport) set(f fault, skip int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault, n.skip = f, skip
}

// strike says which fault meets the answer that is due now.
func (n *Transport) strike() fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.fault
	switch {
	case f == none:
	case n.skip > 0:
		n.skip--
		return none
	case f == fail && n.skip == 0:
		n.fault = none
	}
	return f
}

// RoundTrip implements [http.RoundTripper].
func (n *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if !n.count() {
		<-ctx.Done() // let the clock go on
		return nil, ctx.Err()
	}
	if req.URL.Host != n.host {
		n.mu.Lock()
		n.strayed++
		n.mu.Unlock()
		return respond(req, http.StatusOK, http.Header{}, io.NopCloser(bytes.NewReader([]byte("{}")))), nil
	}
	if n.latency > 0 {
		timer := time.NewTimer(n.latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.mu.Lock()
	refused := n.fault == refuse
	n.mu.Unlock()
	if refused {
		return nil, errors.New("connection refused")
	}
	return n.exchange(ctx, req)
}

// exchange is one request and its answer. The answer is built as a whole, and
// what of it arrives is decided when it is ready: that is when it would be sent.
func (n *Transport) exchange(ctx context.Context, req *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.open++
	n.mu.Unlock()
	var once sync.Once
	over := func() {
		once.Do(func() {
			n.mu.Lock()
			n.open--
			n.mu.Unlock()
		})
	}
	answer := &recorder{header: http.Header{}, status: http.StatusOK}
	served := make(chan struct{})
	go func() {
		defer close(served)
		n.handler.ServeHTTP(answer, serverSide(req))
	}()
	select {
	case <-served:
	case <-ctx.Done():
		// The handler ends with the context as well; until then the request is
		// open.
		go func() {
			<-served
			over()
		}()
		return nil, ctx.Err()
	}

	body := &body{ctx: ctx, data: answer.body.Bytes(), over: over, end: io.EOF}
	status := answer.status
	switch n.strike() {
	case none:
	case refuse, cut:
		body.data, body.end = body.data[:len(body.data)/2], io.ErrUnexpectedEOF
	case partial:
		body.data = body.data[:len(body.data)/2]
	case stall:
		body.data, body.end = body.data[:len(body.data)/2], nil
	case hang:
		<-ctx.Done()
		over()
		return nil, ctx.Err()
	case fail:
		status, body.data = http.StatusInternalServerError, []byte("internal error")
	case page:
		status, body.data = http.StatusOK, []byte("<!DOCTYPE html><title>Log in</title>")
		answer.header = http.Header{"Content-Type": {"text/html"}}
	case move:
		status, body.data = http.StatusFound, nil
		answer.header = http.Header{"Location": {"http://elsewhere.invalid" + req.URL.RequestURI()}}
	}
	return respond(req, status, answer.header, body), nil
}

// count counts a request, and reports false when there are too many.
func (n *Transport) count() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	if now := time.Now(); now.Equal(n.instant) {
		n.inst++
	} else {
		n.instant, n.inst = now, 1
	}
	if n.requests <= requestCap && n.inst <= instantCap {
		return true
	}
	if !n.spun {
		n.spun = true
		n.tb.Errorf("the driver spins: %d requests, %d of them at one moment", n.requests, n.inst)
	}
	return false
}

func serverSide(req *http.Request) *http.Request {
	r := req.Clone(req.Context())
	r.RequestURI = req.URL.RequestURI()
	r.Host = req.URL.Host
	if r.Body == nil {
		r.Body = http.NoBody
	}
	return r
}

func respond(req *http.Request, status int, header http.Header, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: body, ContentLength: -1, Request: req,
	}
}

// recorder is the whole answer of a handler.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	wrote  bool
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status, r.wrote = status, true
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	return r.body.Write(p)
}

// body is what arrives of an answer. It is used by one reader at a time.
type body struct {
	ctx  context.Context //nolint:containedctx // the request's, as in net/http
	data []byte
	end  error // nil: nothing more comes
	over func()
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		b.over()
		return 0, err
	}
	if len(b.data) > 0 {
		c := copy(p, b.data)
		b.data = b.data[c:]
		return c, nil
	}
	if b.end == nil {
		<-b.ctx.Done()
		b.over()
		return 0, b.ctx.Err()
	}
	b.over()
	return 0, b.end
}

func (b *body) Close() error {
	b.over()
	return nil
}
