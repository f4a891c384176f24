package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hotsvc/svc/configsrc"
)

// Backend is what the API shows and does. A nil func leaves its endpoint out.
// Results are written as JSON. A [*StatusError] sets the answer's status; a
// *configsrc.InvalidError is 422 with its problems; any other error is 500.
type Backend struct {
	Status      func() any
	Config      func() any
	Sources     func() any
	History     func() any
	Generations func() any
	Connections func() any
	// Reload re-reads all sources and returns the outcome.
	Reload func(ctx context.Context) (any, error)
	// Restart is a graceful restart. It returns when the new process accepts.
	Restart func(ctx context.Context) (any, error)
	// Refresh is Reload as Spring's actuator has it: it returns the keys whose
	// values changed, none where nothing did. That endpoint has no word for an
	// outcome, so one that is not in force as a whole must be an error: a
	// content that was refused of status 422, sources that cannot be read of
	// 503, a change that waits for a restart of 409, each with the reason.
	Refresh func(ctx context.Context) ([]string, error)
	// Plan says what a document would cause, or the sources' present content
	// where document is nil. name is the document's, for messages; its ending
	// tells the format.
	Plan     func(ctx context.Context, name string, document []byte) (any, error)
	Rollback func(ctx context.Context, revision string) (any, error)
	// Resume ends a rollback's pin.
	Resume func(ctx context.Context) (any, error)
}

// StatusError is an error with the HTTP status that it deserves.
type StatusError struct {
	Status int
	Err    error
}

func (e *StatusError) Error() string { return e.Err.Error() }
func (e *StatusError) Unwrap() error { return e.Err }

// maxDocument bounds the body of a plan request: the default limit of a source.
const maxDocument = 4 << 20

// Handler serves the API. metrics may be nil. It asks for no credentials, which
// is for [ServeTCP] to do, but refuses what browsers send for pages of other
// sites. A path that is not written in its one canonical form is no endpoint.
func Handler(b Backend, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	refuse := func(pattern, allow string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			writeError(w, &StatusError{http.StatusMethodNotAllowed, errors.New(r.URL.Path + " takes " + allow)})
		})
	}
	show := func(pattern string, f func() any) {
		if f != nil {
			refuse(pattern, "GET, HEAD")
			mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, f()) })
		}
	}
	show("/api/v1/status", b.Status)
	show("/api/v1/config", b.Config)
	show("/api/v1/sources", b.Sources)
	show("/api/v1/history", b.History)
	show("/api/v1/generations", b.Generations)
	show("/api/v1/connections", b.Connections)
	act := func(pattern string, offered bool, f func(*http.Request) (any, error)) {
		if offered {
			refuse(pattern, "POST")
			mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
				r.Body = http.MaxBytesReader(w, r.Body, maxDocument)
				result, err := f(r)
				if err != nil {
					writeError(w, err)
					return
				}
				writeJSON(w, result)
			})
		}
	}
	act("/api/v1/reload", b.Reload != nil, func(r *http.Request) (any, error) { return b.Reload(r.Context()) })
	act("/api/v1/restart", b.Restart != nil, func(r *http.Request) (any, error) { return b.Restart(r.Context()) })
	act("/api/v1/resume", b.Resume != nil, func(r *http.Request) (any, error) { return b.Resume(r.Context()) })
	act("/api/v1/rollback/{rev}", b.Rollback != nil, func(r *http.Request) (any, error) {
		return b.Rollback(r.Context(), r.PathValue("rev"))
	})
	act("/api/v1/plan", b.Plan != nil, func(r *http.Request) (any, error) {
		document, err := readDocument(r)
		if err != nil {
			return nil, err
		}
		return b.Plan(r.Context(), r.URL.Query().Get("name"), document)
	})
	act("/actuator/refresh", b.Refresh != nil, func(r *http.Request) (any, error) {
		changed, err := b.Refresh(r.Context())
		return append([]string{}, changed...), err // [] in JSON, never null
	})
	addProfiles(mux, refuse)
	if metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	}
	mux.HandleFunc("/", noEndpoint)
	return secure(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkOrigin(r); err != nil {
			writeError(w, err)
			return
		}
		if !canonical(r.URL) {
			noEndpoint(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

func noEndpoint(w http.ResponseWriter, r *http.Request) {
	writeError(w, &StatusError{http.StatusNotFound, errors.New("no such endpoint: " + r.Method + " " + r.URL.Path)})
}

// canonical is false for the paths that the mux would clean or decode before
// it looks for the endpoint.
func canonical(u *url.URL) bool {
	clean := path.Clean(u.Path)
	return u.RawPath == "" && (u.Path == clean || u.Path == clean+"/" && clean != "/")
}

// readDocument returns nil for a request without a body.
func readDocument(r *http.Request) ([]byte, error) {
	document, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &StatusError{http.StatusRequestEntityTooLarge, errors.New("the document is larger than 4 MiB")}
	case err != nil:
		return nil, &StatusError{http.StatusBadRequest, errors.New("the document did not arrive whole")}
	case r.ContentLength == 0:
		return nil, nil
	}
	return document, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the client is gone, or it is not
}

// Problem is the body of an error answer.
type Problem struct {
	Title    string              `json:"title"`
	Status   int                 `json:"status"`
	Detail   string              `json:"detail,omitempty"`
	Problems []configsrc.Problem `json:"problems,omitempty"`
}

// Error is the problem's detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return strings.ToLower(p.Title)
	}
	return p.Detail
}

func writeError(w http.ResponseWriter, err error) {
	p := Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	var status *StatusError
	var invalid *configsrc.InvalidError
	switch {
	case errors.As(err, &status):
		p.Status = status.Status
	case errors.As(err, &invalid):
		p.Status, p.Problems = http.StatusUnprocessableEntity, invalid.Problems
	}
	p.Title = http.StatusText(p.Status)
	body, _ := json.Marshal(p) // plain texts and numbers
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}
