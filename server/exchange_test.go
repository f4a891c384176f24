package server

import (
	"net/http"
	"strings"
	"testing"
)

// net/http panics for a status that there is not; nothing was sent then.
func TestStatusThatThereIsNot(t *testing.T) {
	for _, status := range []int{0, 42, 1000} {
		for name, c := range clients(t) {
			s := start(t, Options{Handler: handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), Logger: discard()}, allowH2C)
			a := do(t, c, request(t, http.MethodGet, "http://"+s.addr+"/", nil))
			if a.StatusCode != 500 {
				t.Errorf("%d by %s: %s", status, name, a.Status)
			}
			wantProblem(t, a, 500, "could not finish")
		}
	}
}

// What is plain keeps its connection; what a proxy might see in another way does
// not. See TestSmuggling for why.
func TestConnectionsThatEndWithTheirRequest(t *testing.T) {
	s := start(t, Options{Handler: &counted{}})
	for _, tt := range []struct {
		text  string
		close bool
	}{
		{"GET / HTTP/1.1\nHost: x\n\n", false},
		{"POST / HTTP/1.1\nHost: x\nContent-Length: 0\n\n", false},
		{"POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\nx", false},
		{"POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0\n\n", true},
		{"GET / HTTP/1.0\nConnection: keep-alive\n\n", true},
		{"GET / HTTP/1.0\n\n", true},
	} {
		c := dial(t, s.addr)
		c.send(t, tt.text)
		a := c.receive(t)
		if a.StatusCode != 200 || a.Close != tt.close {
			t.Errorf("%s: %s, closed %v", strings.SplitN(tt.text, "\n", 2)[0], a.Status, a.Close)
		}
		if tt.close {
			c.wantClosed(t)
		}
	}
}
