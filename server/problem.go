package server

import (
	"encoding/json"
	"net/http"
)

const problemType = "application/problem+json"

// problem is the answer of RFC 9457. The type about:blank says that the status
// tells the kind, so the title is the status's own text.
type problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty"`
	Checks []check `json:"checks,omitempty"` // of /readyz?verbose
}

func writeProblem(w http.ResponseWriter, status int, detail string) {
	problem{Status: status, Detail: detail}.write(w)
}

func (p problem) write(w http.ResponseWriter) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		// Texts and numbers always have a JSON form.
		panic(err)
	}
	h := w.Header()
	// What a handler set for the answer that it did not give.
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	// A client that has gone needs no answer.
	_, _ = w.Write(append(body, '\n'))
}
