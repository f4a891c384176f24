package configsrctest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// flaw is the one way in which a copy of the reference source is broken.
type flaw string

const (
	none               flaw = ""
	spins              flaw = "spins while idle"
	losesUpdate        flaw = "asks for the position and not for the content"
	fetchesInTwoSteps  flaw = "keeps the position before it has the data"
	sticksAfterError   flaw = "returns its first error for ever"
	sticksOnLowerIndex flaw = "takes only a higher index for news"
	leaksGoroutine     flaw = "leaves a goroutine behind"
	leaksRequest       flaw = "leaves its request behind when cancelled"
	leavesBodyOpen     flaw = "does not close an answer"
	tearsState         flaw = "reads one state in two requests"
	emptyOnNotFound    flaw = "takes not found for empty"
	emptyOnError       flaw = "takes an error for empty"
	trustsHalfABody    flaw = "takes a login page or half an answer for content"
	followsRedirect    flaw = "follows a redirect"
	secretInError      flaw = "puts its token into an error"
	secretInLabel      flaw = "puts its token into a label"
	quotesContent      flaw = "puts a value into an error"
	comparesIndex      flaw = "compares the index and not the content"
	ignoresContext     flaw = "ignores its context"
	wrongContextError  flaw = "wraps ctx.Err() away"
	wrongVersion       flaw = "returns a version that is not that of the data"
	noVersionOnInvalid flaw = "gives no version with invalid content"
	sticksOnLastGood   flaw = "takes the last good content for known after invalid content"
	reusesMap          flaw = "changes a snapshot after it was returned"
	deniedIsOther      flaw = "does not tell denied from other errors"
	downIsNotFound     flaw = "takes unreachable for not found"
	plainError         flaw = "returns an error without its place"
	trustsCursor       flaw = "believes the cursor"
	chokesOnCursor     flaw = "refuses a cursor that it does not know"
	instanceCursor     flaw = "takes another instance's version for none"
	keepsDeletedKeys   flaw = "merges into what it had"
	noTimes            flaw = "does not set Notified"
	ignoresLostSignals flaw = "waits for a signal without end"
	blocksFirst        flaw = "waits for a change in its first call"
	firstPageOnly      flaw = "reads the first ten keys"
	dropsLists         flaw = "leaves list elements out"
	dropsEmptyTexts    flaw = "leaves empty texts out"
	dropsBools         flaw = "leaves the bools of sections out"
	dropsNothings      flaw = "leaves empty lists and sections out"
	textsOnly          flaw = "turns values into texts"
	notFoundOnEmpty    flaw = "takes empty for not found"
	pollsAfterMove     flaw = "polls once the index has moved without news"
	pollsAfterRewind   flaw = "polls once the index has gone back"
	leavesTimer        flaw = "leaves a timer behind that asks later"
	missesDenial       flaw = "goes on waiting when access is lost"
)

// firstQuery is what a call asks first. The correct source reads what there is.
func (r *reference) firstQuery(ctx context.Context, after configsrc.Version) (string, error) {
	known := func(index string) string { return url.Values{"index": {index}}.Encode() }
	if after.IsZero() {
		if r.flaw == blocksFirst {
			return known(strconv.FormatUint(r.get(ctx, "/index", "").index, 10)), nil
		}
		return "", nil
	}
	switch r.flaw {
	case losesUpdate:
		if st := r.get(ctx, "/index", ""); st.err == nil {
			return known(strconv.FormatUint(st.index, 10)), nil
		}
	case fetchesInTwoSteps:
		if r.index != 0 {
			return known(strconv.FormatUint(r.index, 10)), nil
		}
	case trustsCursor:
		return known(after.Cursor), nil
	case chokesOnCursor:
		if _, err := strconv.ParseUint(after.Cursor, 10, 64); err != nil && after.Cursor != "" {
			return "", &configsrc.Error{Backend: "pigeonhole", Op: "read", Address: r.host, Err: errors.New("bad cursor")}
		}
	}
	return "", nil
}

// nextQuery is what a call asks after an answer that was no news.
func (r *reference) nextQuery(st state) string {
	if r.flaw == spins {
		return ""
	}
	query := url.Values{"index": {strconv.FormatUint(st.index, 10)}}
	if r.flaw == ignoresLostSignals {
		query.Set("wait", "10000h")
	}
	return query.Encode()
}

// differs says whether an answer is news.
func (r *reference) differs(st state, after configsrc.Version) bool {
	cursor, _ := strconv.ParseUint(after.Cursor, 10, 64)
	switch r.flaw {
	case comparesIndex:
		if st.err == nil && cursor != 0 {
			return st.index != cursor
		}
	case sticksOnLowerIndex:
		if st.err == nil && cursor != 0 {
			return st.index > cursor && st.version().Content != after.Content
		}
	case instanceCursor:
		if r.last == nil {
			return true
		}
	case missesDenial:
		if r.lost(st) {
			return false
		}
	case sticksOnLastGood:
		if st.err == nil && r.last != nil && st.snap.Version.Content == r.last.Version.Content {
			return false
		}
	}
	return st.version().Content != after.Content
}

// lost says whether an answer is a denial, which some mutants do not mind.
func (r *reference) lost(st state) bool {
	return r.flaw == missesDenial && st.err != nil && errors.Is(st.err, configsrc.ErrDenied)
}

// dawdle lets a flawed source wait for a moment, and ask as before.
func (r *reference) dawdle(ctx context.Context, st state, after configsrc.Version, query string) bool {
	moved := st.err == nil && after.Cursor != "" && after.Cursor != strconv.FormatUint(st.index, 10)
	polls := r.flaw == pollsAfterMove && moved && query == ""
	if r.flaw == pollsAfterRewind {
		r.index = max(r.index, st.index)
		polls = st.index < r.index && query == ""
	}
	if !polls && !r.lost(st) {
		return false
	}
	timer := time.NewTimer(700 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// spoilValues breaks what was parsed.
func (r *reference) spoilValues(values configsrc.Values) {
	for i, key := range values.Keys() {
		raw := values[key].Raw
		_, isBool := raw.(bool)
		_, isNothing := raw.(configsrc.Empty)
		_, isText := raw.(string)
		_, isListed := configsrc.ListRoot(key)
		switch {
		case r.flaw == firstPageOnly && i >= 10,
			r.flaw == dropsLists && isListed,
			r.flaw == dropsEmptyTexts && raw == "",
			r.flaw == dropsBools && isBool && !isListed,
			r.flaw == dropsNothings && isNothing && !isListed:
			delete(values, key)
		case r.flaw == textsOnly && !isText:
			v := values[key]
			v.Raw = fmt.Sprint(raw)
			values[key] = v
		}
	}
}

// do is http.Client.Do, which a flawed source leaves running.
func (r *reference) do(req *http.Request) (*http.Response, error) {
	if r.flaw != leaksRequest {
		return r.client.Do(req)
	}
	ctx := req.Context()
	type answer struct {
		resp *http.Response
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		resp, err := r.client.Do(req.WithContext(context.WithoutCancel(ctx))) //nolint:bodyclose // the flaw
		done <- answer{resp, err}
	}()
	select {
	case a := <-done:
		return a.resp, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// spoilResult breaks what a call returns.
func (r *reference) spoilResult(snap configsrc.Snapshot, err error) (configsrc.Snapshot, error) {
	if r.failed != nil {
		return configsrc.Snapshot{}, r.failed
	}
	empty := configsrc.Snapshot{Version: configsrc.Version{Content: configsrc.Values{}.Hash()}, Values: configsrc.Values{}}
	if e, ok := errors.AsType[*configsrc.Error](err); ok {
		return r.spoilError(empty, e)
	}
	switch r.flaw {
	case wrongVersion:
		snap.Version.Content[0]++
	case secretInLabel:
		snap.Label += " " + refToken
	case reusesMap:
		if r.last != nil {
			clear(r.last.Values)
			maps.Copy(r.last.Values, snap.Values)
			snap.Values = r.last.Values
		}
	case keepsDeletedKeys:
		if r.last != nil {
			for k, v := range r.last.Values {
				if _, ok := snap.Values[k]; !ok {
					snap.Values[k] = v
				}
			}
			snap.Version.Content = snap.Values.Hash()
		}
	case notFoundOnEmpty:
		if len(snap.Values) == 0 {
			return configsrc.Snapshot{}, &configsrc.Error{
				Backend: "pigeonhole", Op: "read", Address: r.host, Kind: configsrc.ErrNotFound,
			}
		}
	case noTimes:
		snap.Notified = snap.Published
	}
	r.last = &snap
	return snap, nil
}

func (r *reference) spoilError(empty configsrc.Snapshot, e *configsrc.Error) (configsrc.Snapshot, error) {
	empty.Notified = time.Now()
	empty.Fetched = empty.Notified
	switch r.flaw {
	case sticksAfterError:
		if e.Kind == nil {
			r.failed = e
		}
	case emptyOnNotFound:
		if errors.Is(e, configsrc.ErrNotFound) {
			return empty, nil
		}
	case emptyOnError:
		if e.Kind == nil {
			return empty, nil
		}
	case trustsHalfABody:
		if errors.Is(e, configsrc.ErrInvalid) && r.last != nil {
			return *r.last, nil
		}
	case secretInError:
		if errors.Is(e, configsrc.ErrDenied) {
			e.Err = errors.New("token " + refToken)
		}
	case noVersionOnInvalid:
		if errors.Is(e, configsrc.ErrInvalid) {
			e.Version = configsrc.Version{}
		}
	case deniedIsOther:
		if errors.Is(e, configsrc.ErrDenied) {
			e.Kind = nil
		}
	case downIsNotFound:
		if e.Kind == nil {
			e.Kind = configsrc.ErrNotFound
		}
	case plainError:
		e.Address = ""
	}
	return configsrc.Snapshot{}, e
}
