package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// response is the writer that handlers get. It notes the status, closes
// connections while the server drains, and keeps an answer possible for a
// request that ran out of time. It holds no body back.
type response struct {
	http.ResponseWriter
	request  *http.Request
	draining *atomic.Bool
	status   int // 0: no header sent yet
	hijacked bool
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
		if status == http.StatusOK && outOfTime(w.request) {
			// Frameworks write this for a handler that has returned without
			// an answer. Should a body follow, it is an answer after all.
			return
		}
		w.commit(status)
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// commit sends the header. Whether the server drains is asked here and not at
// the request's start, because the drain may have begun meanwhile.
func (w *response) commit(status int) {
	w.status = status
	if w.draining.Load() && status != http.StatusSwitchingProtocols {
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) ensureHeader() {
	if w.status == 0 {
		w.commit(http.StatusOK)
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.ensureHeader()
	return w.ResponseWriter.Write(p)
}

func (w *response) WriteString(s string) (int, error) {
	w.ensureHeader()
	return io.WriteString(w.ResponseWriter, s)
}

func (w *response) ReadFrom(r io.Reader) (int64, error) {
	w.ensureHeader()
	if rf, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
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

// finish answers for a handler that has returned without an answer.
func (w *response) finish() {
	switch {
	case w.hijacked || w.status != 0:
	case outOfTime(w.request):
		writeProblem(w, http.StatusServiceUnavailable,
			"the request has taken longer than server.timeout.request allows")
	default:
		w.ensureHeader()
	}
}
