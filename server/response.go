package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// response is the writer that handlers get. It notes the status, closes
// connections while the server drains, and keeps an answer possible for a
// request that ran out of time. It holds no body back.
type response struct {
	http.ResponseWriter
	exchange *exchange
	request  *http.Request
	status   int   // 0: no header sent yet
	bytes    int64 // of the body, as far as written
	hijacked bool
	failed   bool // to write the body
}

var (
	_ http.Flusher    = (*response)(nil)
	_ http.Hijacker   = (*response)(nil)
	_ io.ReaderFrom   = (*response)(nil)
	_ io.StringWriter = (*response)(nil)
)

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	informational := status < http.StatusOK && status != http.StatusSwitchingProtocols
	if w.status == 0 && !informational {
		if status == http.StatusOK && (w.exchange.live.TimedOut() || w.exchange.tooLarge.Load() || w.exchange.clientGone()) {
			// Frameworks write this for a handler that has returned without
			// an answer. Should a body follow, it is an answer after all.
			return
		}
		w.commit(status)
		return
	}
	w.ResponseWriter.WriteHeader(status)
	if informational {
		w.exchange.live.Interim()
	}
}

// commit sends the header. Whether the server drains is asked here and not at
// the request's start, because the drain may have begun meanwhile.
func (w *response) commit(status int) {
	x := w.exchange
	if (x.last || x.server.registry.Draining() && !x.moves()) && status != http.StatusSwitchingProtocols {
		w.Header().Set("Connection", "close")
	}
	x.live.Answer() // after that: it looks at the header
	// net/http panics for a status that there is not. Then nothing was sent.
	w.ResponseWriter.WriteHeader(status)
	w.status = status
}

// moves reports whether the connection goes to a successor after the answer. It
// is not closed then: what the client has sent already, one request after the
// other, would be lost. One that has had no idle moment until shortly before the
// end of the drain is closed all the same, and told so, rather than cut off.
func (x *exchange) moves() bool {
	return !x.server.leaving.Load() && x.request.ProtoMajor == 1 && x.request.TLS == nil && x.live.Conn().Moving()
}

func (w *response) ensureHeader() {
	if w.status == 0 {
		w.commit(http.StatusOK)
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.ensureHeader()
	n, err := w.ResponseWriter.Write(p)
	w.wrote(int64(n), err)
	return n, err
}

func (w *response) WriteString(s string) (int, error) {
	w.ensureHeader()
	n, err := io.WriteString(w.ResponseWriter, s)
	w.wrote(int64(n), err)
	return n, err
}

func (w *response) ReadFrom(r io.Reader) (int64, error) {
	w.ensureHeader()
	rf, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	n, err := rf.ReadFrom(r)
	w.wrote(n, err)
	return n, err
}

func (w *response) wrote(n int64, err error) {
	w.bytes += n
	w.failed = w.failed || err != nil && !errors.Is(err, http.ErrBodyNotAllowed)
}

func (w *response) Flush() {
	// The error of a client that has gone shows at the next write.
	_ = w.FlushError()
}

// FlushError is Flush for http.ResponseController.
func (w *response) FlushError() error {
	w.ensureHeader()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = true
	}
	return nc, rw, err
}

// CloseNotify is deprecated in net/http, and gin's Context.Stream calls it.
func (w *response) CloseNotify() <-chan bool {
	if n, ok := w.ResponseWriter.(interface{ CloseNotify() <-chan bool }); ok {
		return n.CloseNotify()
	}
	return nil
}

// SetReadDeadline is for http.ResponseController. A handler's own deadline wins
// over server.timeout.read.
func (w *response) SetReadDeadline(t time.Time) error {
	w.exchange.live.OwnReadDeadline()
	return http.NewResponseController(w.ResponseWriter).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController. A handler's own deadline wins
// over server.timeout.write.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.exchange.live.OwnWriteDeadline()
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}
