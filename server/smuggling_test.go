package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorded is a handler that notes what it was asked, with the bodies.
type recorded struct {
	mu    sync.Mutex
	asked []string
}

func (r *recorded) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	what := fmt.Sprintf("%s %s%s %q", req.Method, req.Host, req.URL.Path, body)
	if err != nil {
		what += " and an error"
	}
	r.mu.Lock()
	r.asked = append(r.asked, what)
	r.mu.Unlock()
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (r *recorded) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.asked...)
}

// answers are the statuses that the server gives until it closes the connection.
// What it sends must be answers.
func (c *raw) answers(t *testing.T) []string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		res, err := http.ReadResponse(c.r, nil)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return append(got, "open")
		case err != nil:
			return got
		}
		_, err = io.Copy(io.Discard, res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Errorf("read an answer: %v", err)
		}
		got = append(got, fmt.Sprint(res.StatusCode))
	}
}

// Two ways to see where a request ends let one who shares a proxy's connection
// put a request before that of somebody else (RFC 9112 section 11.2). So whatever
// can be seen in two ways is refused, or is the last on its connection.
func TestSmuggling(t *testing.T) {
	const (
		smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
		chunked  = "0\r\n\r\n" + smuggled
	)
	post := func(lines ...string) string {
		return "POST / HTTP/1.1\r\nHost: x\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	length := fmt.Sprintf("Content-Length: %d", len(chunked))
	for _, tt := range []struct {
		name    string
		text    string
		answers string // in order; "open" where the connection stays, for one more
		asked   string // what reaches the handler; "" is nothing
	}{
		// Two lengths.
		{"CL and another CL", post("Content-Length: 0", length) + chunked, "400", ""},
		{"the same CL twice", post("Content-Length: 1", "Content-Length: 1") + "x", "200 open", `POST x/ "x"`},
		{"CL list", post("Content-Length: 0, 5") + smuggled, "400", ""},
		{"CL negative", post("Content-Length: -1") + smuggled, "400", ""},
		{"CL signed", post("Content-Length: +0") + smuggled, "400", ""},
		{"CL hexadecimal", post("Content-Length: 0x0") + smuggled, "400", ""},
		{"CL empty", post("Content-Length:") + smuggled, "400", ""},
		{"CL too large", post("Content-Length: 18446744073709551616") + smuggled, "400", ""},
		{"CL with a space inside", post("Content-Length: 1 0") + smuggled, "400", ""},
		// A length and chunks.
		{"CL.TE", post("Content-Length: 6", "Transfer-Encoding: chunked") + chunked, "200", `POST x/ ""`},
		{"TE.CL", post("Transfer-Encoding: chunked", "Content-Length: 6") + chunked, "200", `POST x/ ""`},
		{"CL.TE, the length whole", post(length, "Transfer-Encoding: chunked") + chunked, "200", `POST x/ ""`},
		{"bad CL and TE", post("Content-Length: x", "Transfer-Encoding: chunked") + chunked, "400", ""},
		{"two CL and TE", post("Content-Length: 0", "Content-Length: 6", "Transfer-Encoding: chunked") + chunked, "400", ""},
		{"TE alone", post("Transfer-Encoding: chunked") + "1\r\nx\r\n" + chunked, "200", `POST x/ "x"`},
		{"TE on HTTP/1.0", strings.Replace(post("Connection: keep-alive", "Transfer-Encoding: chunked"), "1.1", "1.0", 1) + chunked, "200", `POST x/ ""`},
		{"CL.TE on HTTP/1.0", strings.Replace(post("Connection: keep-alive", "Content-Length: 5", "Transfer-Encoding: chunked"), "1.1", "1.0", 1) + chunked, "200", `POST x/ "0\r\n\r\n"`},
		// Encodings that one side may not see.
		{"TE twice", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + chunked, "501", ""},
		{"TE twice the same", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + chunked, "501", ""},
		{"TE list", post("Transfer-Encoding: identity, chunked") + chunked, "501", ""},
		{"TE chunked first", post("Transfer-Encoding: chunked, identity") + chunked, "501", ""},
		{"TE unknown", post("Transfer-Encoding: xchunked", length) + chunked, "501", ""},
		{"TE identity", post("Transfer-Encoding: identity", length) + chunked, "501", ""},
		{"TE empty", post("Transfer-Encoding:", length) + chunked, "501", ""},
		{"TE in quotes", post(`Transfer-Encoding: "chunked"`, length) + chunked, "501", ""},
		{"TE with a parameter", post("Transfer-Encoding: chunked;q=1", length) + chunked, "501", ""},
		{"TE in capitals", post("Transfer-Encoding: CHUNKED", length) + chunked, "200", `POST x/ ""`},
		{"TE behind a tab", post("Transfer-Encoding:\tchunked", length) + chunked, "200", `POST x/ ""`},
		{"TE with a vertical tab", post("Transfer-Encoding: \vchunked", length) + chunked, "400", ""},
		{"TE with a NUL", post("Transfer-Encoding: chunked\x00", length) + chunked, "400", ""},
		{"TE with a bare CR", post("Transfer-Encoding: chunked\rX: y", length) + chunked, "400", ""},
		{"space before the colon", post("Transfer-Encoding : chunked", length) + chunked, "400", ""},
		{"tab before the colon", post("Content-Length\t: 6", "Transfer-Encoding: chunked") + chunked, "400", ""},
		{"space before the name", "POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\n" + length + "\r\n\r\n" + chunked, "400", ""},
		{"underscore", post("Transfer_Encoding: chunked", length) + chunked, "200 open", fmt.Sprintf("POST x/ %q", chunked)},
		{"NUL in the name", post("Transfer-Encoding\x00: chunked", length) + chunked, "400", ""},
		{"no colon", post("Transfer-Encoding chunked", length) + chunked, "400", ""},
		// Folded, the second line belongs to the first: TE is not chunked, then.
		{"obs-fold", post("Transfer-Encoding: identity,", " chunked", length) + chunked, "501", ""},
		{"obs-fold hides TE", post("X: y", " Transfer-Encoding: chunked", length) + chunked, "200 open", fmt.Sprintf("POST x/ %q", chunked)},
		// Chunks.
		{"chunk size overflow", post("Transfer-Encoding: chunked") + "fffffffffffffffff\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"chunk size 2^64", post("Transfer-Encoding: chunked") + "10000000000000000\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"chunk size negative", post("Transfer-Encoding: chunked") + "-1\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"chunk size with 0x", post("Transfer-Encoding: chunked") + "0x1\r\nx\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"chunk size empty", post("Transfer-Encoding: chunked") + "\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"chunk longer than its size", post("Transfer-Encoding: chunked") + "1\r\nxyz\r\n" + chunked, "400", `POST x/ "x" and an error`},
		{"chunk size with a bare LF", post("Transfer-Encoding: chunked") + "1\nx\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"bare LF in an extension", post("Transfer-Encoding: chunked") + "1;a\nx\r\n" + chunked, "400", `POST x/ "" and an error`},
		{"chunk ends in a bare LF", post("Transfer-Encoding: chunked") + "1\r\nx\n" + chunked, "400", `POST x/ "x" and an error`},
		{"many extensions", post("Transfer-Encoding: chunked") + strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\nx\r\n", 1000) + chunked, "400", `POST x/ "xxxxxxxxxxxxxxxx" and an error`},
		{"TE in a trailer", post("Transfer-Encoding: chunked", "Trailer: Content-Length") + chunked, "400", ""},
		// Lines and names.
		{"NUL in a value", post("X: a\x00b", length) + chunked, "400", ""},
		{"NUL in the path", "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, "400", ""},
		{"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + smuggled, "400", ""},
		{"no host", "GET / HTTP/1.1\r\n\r\n" + smuggled, "400", ""},
		{"host with a path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n" + smuggled, "400", ""},
		{"host with a space", "GET / HTTP/1.1\r\nHost: x y\r\n\r\n" + smuggled, "400", ""},
		{"no version", "GET /\r\n\r\n" + smuggled, "400", ""},
		{"three spaces", "GET / x HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, "400", ""},
		{"HTTP/2.0 in text", "GET / HTTP/2.0\r\nHost: x\r\n\r\n" + smuggled, "505", ""},
		{"HTTP/9.9", "GET / HTTP/9.9\r\nHost: x\r\n\r\n" + smuggled, "505", ""},
		{"a method that is none", "G@T / HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, "400", ""},
		{"garbage", "\x16\x03\x01\x00\xa5\r\n\r\n" + smuggled, "400", ""},
		{"expects something", post("Expect: 200-ok", length) + chunked, "417", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &recorded{}
			s := start(t, Options{Handler: h, Logger: discard()})
			c := dial(t, s.addr)
			wantAnswers, wantAsked := strings.Fields(tt.answers), tt.asked
			if last := len(wantAnswers) - 1; wantAnswers[last] == "open" {
				tt.text += "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
				wantAnswers[last] = "200"
				wantAsked += `; GET x/last ""`
			}
			// The server may have had enough before it has all.
			_, _ = io.WriteString(c, tt.text)
			if d := cmp.Diff(wantAnswers, c.answers(t)); d != "" {
				t.Errorf("answers (-want +got):\n%s", d)
			}
			asked := strings.Join(h.all(), "; ")
			if strings.Contains(asked, "GET x/smuggled") {
				t.Errorf("the smuggled request was executed: %s", asked)
			}
			if asked != wantAsked {
				t.Errorf("asked %s, want %s", asked, wantAsked)
			}
		})
	}
}
