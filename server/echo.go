package server

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	maxEchoBytes = 64 << 20 // what it may ask for, bytes
	maxEchoDelay = time.Hour
)

type echoRequest struct {
	delay time.Duration
	bytes int64 // -1: not asked for
}

// parseEcho reads the query of /v1/echo: delay is a Go duration or a number of
// milliseconds, at most an hour; bytes is the length of the answer's body, at
// most 64 MiB.
func parseEcho(q url.Values) (echoRequest, error) {
	e := echoRequest{bytes: -1}
	if text := q.Get("delay"); text != "" {
		d, err := parseDelay(text)
		if err != nil || d < 0 || d > maxEchoDelay {
			return e, errors.New("delay must be a duration like 1500ms, or a number of milliseconds, from 0 to 1h")
		}
		e.delay = d
	}
	if text := q.Get("bytes"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > maxEchoBytes {
			return e, errors.New("bytes must be a number from 0 to 67108864")
		}
		e.bytes = n
	}
	return e, nil
}

func parseDelay(text string) (time.Duration, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.ParseDuration(text)
	}
	if ms > maxEchoDelay.Milliseconds() {
		return 0, errors.New("too long") // and it may not fit into a Duration
	}
	return time.Duration(ms) * time.Millisecond, nil
}

type echoAnswer struct {
	Method    string     `json:"method"`
	Path      string     `json:"path"`
	Query     url.Values `json:"query,omitempty"`
	Remote    string     `json:"remote"`
	BodyBytes int64      `json:"body_bytes"`
	Delay     string     `json:"delay"`
}

// echo tells what it was sent, but for headers: they hold credentials.
func echo(c *gin.Context) {
	r := c.Request
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		writeProblem(c.Writer, http.StatusBadRequest, "the query is not well-formed")
		return
	}
	asked, err := parseEcho(query)
	if err != nil {
		writeProblem(c.Writer, http.StatusBadRequest, err.Error())
		return
	}
	received, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		// The rest of the body is not wanted.
		c.Header("Connection", "close")
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			writeProblem(c.Writer, http.StatusRequestEntityTooLarge, "the body is larger than server.limit.body_bytes allows")
		case errors.Is(err, os.ErrDeadlineExceeded):
			writeProblem(c.Writer, http.StatusRequestTimeout, "the body did not arrive within server.timeout.read")
		default:
			writeProblem(c.Writer, http.StatusBadRequest, "the body did not arrive as a whole")
		}
		return
	}
	if !waited(r, asked.delay) {
		return // the server answers for a request that is out of time
	}
	if asked.bytes >= 0 {
		c.Header("Content-Type", "application/octet-stream")
		c.Header("Content-Length", strconv.FormatInt(asked.bytes, 10))
		c.Header("X-Content-Type-Options", "nosniff")
		c.Status(http.StatusOK)
		if r.Method != http.MethodHead {
			// An error means that the client has gone.
			_, _ = io.CopyN(c.Writer, &filler{request: r}, asked.bytes)
		}
		return
	}
	c.JSON(http.StatusOK, echoAnswer{
		Method: r.Method, Path: r.URL.Path, Query: query, Remote: r.RemoteAddr,
		BodyBytes: received, Delay: asked.delay.String(),
	})
}

// waited waits for d and reports whether the request is still wanted.
func waited(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// filler is an endless body that ends with its request.
type filler struct{ request *http.Request }

func (f *filler) Read(p []byte) (int, error) {
	if err := f.request.Context().Err(); err != nil {
		return 0, err
	}
	for i := range p {
		p[i] = '.'
	}
	return len(p), nil
}
