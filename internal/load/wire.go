package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// wire is a connection of HTTP/1.1.
type wire struct {
	nc      net.Conn
	path    string
	timeout time.Duration
	last    bool // of one request
	foreign bool

	awaited atomic.Bool    // a request has been sent, and nothing of its answer has come
	answers chan reception // to that request
	done    chan struct{}  // closed when the reader has returned
	cause   error          // why; from done on
	unasked error          // what came that nobody had asked for; from done on
	timer   *time.Timer
	well    bool // the last answer was the right one
}

// reception is what the reader got: an answer, or a failure in place of it.
type reception struct {
	answer answer
	err    error
}

func newWire(nc net.Conn, target Target, timeout time.Duration, last bool) *wire {
	w := &wire{
		nc: nc, path: target.Path, timeout: timeout, last: last, foreign: target.Foreign,
		answers: make(chan reception, 1), done: make(chan struct{}), timer: time.NewTimer(timeout),
	}
	go func() {
		defer close(w.done)
		w.cause = w.read(bufio.NewReader(nc))
	}()
	return w
}

// read reads answers until the end of the connection, and returns its cause.
func (w *wire) read(r *bufio.Reader) error {
	var before uint64 // the id of the answer before
	for {
		if _, err := r.Peek(1); err != nil {
			return err
		}
		awaited := w.awaited.Swap(false)
		if !awaited {
			// What it is matters less than that the reader ends.
			if err := w.nc.SetReadDeadline(time.Now().Add(lingering)); err != nil {
				return err
			}
		}
		a, err := readAnswer(r, w.foreign)
		switch {
		case err == nil && a.id != 0 && a.id == before:
			err = &failure{AnsweredTwice, errors.New("the answer before came again")}
		case !awaited:
			err = &failure{Unasked, errors.New("bytes came that nobody had asked for")}
		}
		if !awaited {
			w.unasked = err
			return err
		}
		before = a.id
		w.answers <- reception{a, err} // there is room: one request is under way
		if err != nil {
			return err
		}
	}
}

// maxAnswer is more than the body of any answer here, an error page included.
const maxAnswer = 1 << 20

// readAnswer reads a whole answer. Without an error it has status 200.
func readAnswer(r *bufio.Reader, foreign bool) (answer, error) {
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return answer{}, &failure{Receive, err}
	}
	return parseAnswer(res, foreign)
}

// parseAnswer reads and closes the body of an answer.
func parseAnswer(res *http.Response, foreign bool) (answer, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return answer{}, &failure{Receive, err}
	}
	if res.StatusCode != http.StatusOK {
		return answer{}, &failure{Status, fmt.Errorf("the answer is %s", res.Status)}
	}
	a := answer{last: res.Close}
	if foreign {
		return a, nil
	}
	if a.pid, err = strconv.Atoi(res.Header.Get(pidHeader)); err != nil {
		return answer{}, &failure{Mangled, errors.New("the answer does not name a process")}
	}
	if id := res.Header.Get(idHeader); id != "" {
		if a.id, err = strconv.ParseUint(id, 10, 64); err != nil || string(body) != id {
			return answer{}, &failure{Mangled, errors.New("the answer names two requests, or none")}
		}
	}
	return a, nil
}

func (w *wire) send(ctx context.Context, id uint64) (answer, error) {
	if w.ended() {
		return answer{}, errNotSent
	}
	w.well = false
	w.awaited.Store(true)
	if err := w.nc.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return answer{}, &failure{Send, err}
	}
	if _, err := io.WriteString(w.nc, w.request(id)); err != nil {
		return answer{}, &failure{Send, err}
	}
	w.timer.Reset(w.timeout)
	select {
	case got := <-w.answers:
		return w.check(got, id)
	case <-w.done:
	case <-w.timer.C:
		return answer{}, &failure{Timeout, errors.New("no answer in time")}
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	select {
	case got := <-w.answers: // before the end
		return w.check(got, id)
	default:
		return answer{}, &failure{Receive, fmt.Errorf("the connection ended before the answer: %w", w.cause)}
	}
}

func (w *wire) check(got reception, id uint64) (answer, error) {
	a, err := checkAnswer(got, id, w.foreign)
	w.well = err == nil
	return a, err
}

func checkAnswer(got reception, id uint64, foreign bool) (answer, error) {
	if got.err == nil && !foreign && got.answer.id != id {
		got.err = &failure{Mangled, errors.New("the answer is to another request")}
	}
	return got.answer, got.err
}

func (w *wire) request(id uint64) string {
	var b strings.Builder
	method, body := http.MethodGet, ""
	if id != 0 {
		method, body = http.MethodPost, strconv.FormatUint(id, 10)
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, w.path)
	if w.last {
		b.WriteString("Connection: close\r\n")
	}
	if id != 0 {
		fmt.Fprintf(&b, "%s: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n", idHeader, body, len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

func (w *wire) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// close waits a moment for the end that the server has been asked for, so that a
// second answer would be seen.
func (w *wire) close() error {
	if w.last && w.well {
		w.timer.Reset(lingering)
		select {
		case <-w.done:
		case <-w.timer.C:
		}
	}
	w.timer.Stop()
	_ = w.nc.Close() // its errors are those of a connection that is no longer wanted
	<-w.done
	return w.unasked
}

// lingering is how long a server may take to close a connection of one request,
// or to complete what nobody has asked for.
const lingering = time.Second
