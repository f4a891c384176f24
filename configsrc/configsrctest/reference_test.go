package configsrctest_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

const (
	refHost  = "pigeonhole.invalid"
	refToken = "canary-0815-token"
	refWait  = 55 * time.Second
)

// pigeonhole is a made-up configuration server: one document under one index,
// and reads that block until the index is another.
//
//	GET /document?index=N&wait=D  the document; waits while the index is N
//	GET /index?index=N&wait=D     the index alone; waits in the same way
//
// It is the backend that the reference source and its mutants are written for.
type pigeonhole struct {
	mu     sync.Mutex
	index  uint64
	doc    []byte // nil: none
	denied bool
	mute   bool // readers that wait are not told
	moved  chan struct{}
}

func newPigeonhole() *pigeonhole { return &pigeonhole{index: 10, moved: make(chan struct{})} }

func (s *pigeonhole) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	f()
	if !s.mute {
		close(s.moved)
		s.moved = make(chan struct{})
	}
}

// publish takes a flat content of texts or a nested one of any values.
func (s *pigeonhole) publish(content any) {
	doc, err := json.Marshal(content)
	if err != nil {
		panic(err)
	}
	s.change(func() { s.doc = doc })
}

func (s *pigeonhole) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.await(r) {
		s.answer(w, r)
	}
}

func (s *pigeonhole) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Index", strconv.FormatUint(s.index, 10))
	switch {
	case s.denied || r.Header.Get("Token") != refToken:
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/index":
		_, _ = io.WriteString(w, "{}")
	case s.doc == nil:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write(s.doc)
	}
}

// await waits while the index is the one that the request names. It reports
// false when the client has gone.
func (s *pigeonhole) await(r *http.Request) bool {
	want, err := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	if err != nil {
		return true
	}
	limit := refWait
	if d, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		limit = d
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mu.Lock()
		moved, wait := s.moved, s.index == want && !s.denied
		s.mu.Unlock()
		if !wait {
			return true
		}
		select {
		case <-moved:
		case <-timer.C:
			return true
		case <-r.Context().Done():
			return false
		}
	}
}

// reference is a source for a pigeonhole: correct, unless it has a flaw.
type reference struct {
	client *http.Client
	host   string
	flaw   flaw

	// Only mutants remember anything between two calls.
	index  uint64
	failed error
	last   *configsrc.Snapshot
}

func newReference(network http.RoundTripper, host string, f flaw) *reference {
	r := &reference{host: host, flaw: f, client: &http.Client{
		Transport: network,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			if f == followsRedirect {
				return nil
			}
			return http.ErrUseLastResponse
		},
	}}
	if f == leaksGoroutine {
		go func() { <-make(chan struct{}) }()
	}
	return r
}

// state is what the server answered.
type state struct {
	index uint64
	snap  configsrc.Snapshot
	err   *configsrc.Error
}

func (st state) version() configsrc.Version {
	if st.err != nil {
		return st.err.Version
	}
	return st.snap.Version
}

func (r *reference) Next(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
	if r.flaw == ignoresContext {
		ctx = context.WithoutCancel(ctx)
	}
	snap, err := r.next(ctx, after)
	if ctx.Err() != nil {
		if r.flaw == leavesTimer {
			time.AfterFunc(5*time.Minute, func() { r.get(context.WithoutCancel(ctx), "/document", "") })
		}
		if r.flaw == wrongContextError {
			return snap, err
		}
		return configsrc.Snapshot{}, ctx.Err()
	}
	return r.spoilResult(snap, err)
}

func (r *reference) next(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
	query, err := r.firstQuery(ctx, after)
	if err != nil {
		return configsrc.Snapshot{}, err
	}
	for {
		st := r.fetch(ctx, query)
		unknown := st.version().IsZero() && (query == "" || !r.lost(st))
		if after.IsZero() || unknown || r.differs(st, after) {
			if st.err != nil {
				return configsrc.Snapshot{}, st.err
			}
			return st.snap, nil
		}
		if !r.dawdle(ctx, st, after, query) {
			query = r.nextQuery(st)
		}
	}
}

// fetch reads the document; a query makes it wait.
func (r *reference) fetch(ctx context.Context, query string) state {
	if r.flaw == fetchesInTwoSteps && query != "" {
		// Position first, data later: the position is kept though the data
		// may never come.
		st := r.get(ctx, "/index", query)
		if st.err != nil {
			return st
		}
		r.index, query = st.index, ""
	}
	st := r.get(ctx, "/document", query)
	if r.flaw == tearsState && st.err == nil {
		other := r.get(ctx, "/document", "")
		if v, ok := other.snap.Values["suite.right"]; ok {
			st.snap.Values["suite.right"] = v
			st.snap.Version.Content = st.snap.Values.Hash()
		}
	}
	return st
}

func (r *reference) get(ctx context.Context, path, query string) state {
	u := url.URL{Scheme: "http", Host: r.host, Path: path, RawQuery: query}
	fail := func(kind error, version string, err error) state {
		e := &configsrc.Error{Backend: "pigeonhole", Op: "read", Address: r.host, Kind: kind, Err: err}
		if version != "" {
			e.Version.Content = sha256.Sum256([]byte("error " + version))
		}
		return state{err: e}
	}
	notified := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fail(nil, "", err)
	}
	req.Header.Set("Token", refToken)
	resp, err := r.do(req)
	if err != nil {
		if cause := (*url.Error)(nil); errors.As(err, &cause) {
			err = cause.Err
		}
		return fail(nil, "", err)
	}
	if query != "" {
		notified = time.Now() // the answer is the signal
	}
	if r.flaw != leavesBodyOpen {
		defer resp.Body.Close() //nolint:errcheck // it was only read
	}
	index, _ := strconv.ParseUint(resp.Header.Get("Index"), 10, 64)
	at := func(st state) state { st.index = index; return st }
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden:
		return at(fail(configsrc.ErrDenied, "", nil))
	case http.StatusNotFound:
		return at(fail(configsrc.ErrNotFound, "none", nil))
	default:
		return fail(nil, "", errors.New(resp.Status))
	}
	if index == 0 {
		return fail(nil, "", errors.New("the answer has no index"))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && r.flaw != trustsHalfABody {
		return fail(nil, "", err)
	}
	if path == "/index" {
		return state{index: index}
	}
	values, err := r.parse(data)
	if err != nil {
		return at(fail(configsrc.ErrInvalid, string(data), err))
	}
	return state{index: index, snap: configsrc.Snapshot{
		Version:  configsrc.Version{Content: values.Hash(), Cursor: strconv.FormatUint(index, 10)},
		Values:   values,
		Label:    "index " + strconv.FormatUint(index, 10),
		Notified: notified,
		Fetched:  time.Now(),
	}}
}

func (r *reference) parse(data []byte) (configsrc.Values, error) {
	origin := configsrc.Origin{Source: "pigeonhole", Name: "/document"}
	values, err := configsrc.Flatten(configsrc.JSON, data, origin, configsrc.Limits{})
	if err != nil && r.flaw == quotesContent {
		return nil, fmt.Errorf("parse %q: %w", data, err)
	}
	r.spoilValues(values)
	return values, err
}
