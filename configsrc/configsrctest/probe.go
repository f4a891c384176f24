package configsrctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// canary is in every published value. No value may show in an error or a log.
const canary = "canary-4711-value"

// limitCancel is what the contract gives a call to return after its context
// ended.
const limitCancel = time.Second

// probe is what a case works with. Its methods end the test on a breach.
type probe struct {
	*testing.T
	h       Harness
	b       *Backend
	ctx     context.Context //nolint:containedctx // the case's own, cancelled by finish
	cancel  context.CancelFunc
	leaks   leakCheck
	sources []configsrc.Source
	calls   sync.WaitGroup

	mu        sync.Mutex
	published map[[32]byte]bool // hashes of contents
	last      configsrc.Values  // the content published last
	taken     []taken
	texts     []string // errors and labels
}

// taken is a snapshot as it was when it was returned.
type taken struct {
	snap configsrc.Snapshot
	copy configsrc.Values
}

func newProbe(t *testing.T, h Harness, b *Backend) *probe {
	t.Helper()
	p := &probe{T: t, h: h, b: b, published: map[[32]byte]bool{}, leaks: newLeakCheck()}
	p.ctx, p.cancel = context.WithCancel(t.Context())
	return p
}

// finish ends what the case began and checks what holds for every case.
func (p *probe) finish() {
	p.Helper()
	p.cancel()
	p.closeAll()
	p.awaitCalls()
	for _, s := range p.taken {
		if !reflect.DeepEqual(s.snap.Values, s.copy) {
			p.Error("a snapshot changed after it was returned")
		}
	}
	texts := p.texts
	if p.b.Logs != nil {
		texts = append(texts, p.b.Logs())
	}
	for _, text := range texts {
		for i, secret := range p.b.Secrets {
			if strings.Contains(text, secret) {
				p.Errorf("secret number %d shows in: %s", i, strings.ReplaceAll(text, secret, "<SECRET>"))
			}
		}
		if strings.Contains(text, canary) {
			p.Errorf("a value shows in: %s", text)
		}
	}
	p.leaks.verify(p)
	p.staysQuiet()
}

// staysQuiet checks, where time costs nothing, that no timer is left that talks
// to the backend later.
func (p *probe) staysQuiet() {
	p.Helper()
	if !p.h.Virtual || p.b.Requests == nil {
		return
	}
	before := p.b.Requests()
	p.wait(make(chan struct{}), time.Hour)
	if n := p.b.Requests() - before; n > 0 {
		p.Errorf("%d requests in the hour after the last call and Close", n)
	}
}

// awaitCalls waits for what the case started. A driver that ignores its context
// would keep a bubble, and so the test, alive for ever.
func (p *probe) awaitCalls() {
	p.Helper()
	over := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(over)
	}()
	if !p.wait(over, 10*limitCancel) {
		panic("configsrctest: a call of Next goes on long after its context has ended")
	}
}

// open makes a source; finish closes it.
func (p *probe) open() configsrc.Source {
	p.Helper()
	src, err := p.b.New()
	if err != nil {
		p.Fatalf("make a source: %v", err)
	}
	p.sources = append(p.sources, src)
	return src
}

func (p *probe) closeAll() {
	p.Helper()
	for _, src := range p.sources {
		if c, ok := src.(io.Closer); ok {
			if err := c.Close(); err != nil {
				p.Errorf("close the source: %v", err)
			}
		}
	}
	p.sources = nil
}

// call is one Next that runs.
type call struct {
	p      *probe
	done   chan struct{}
	cancel context.CancelFunc
	asked  int // requests when idles began to count
	snap   configsrc.Snapshot
	err    error
}

// start calls Next and gives it time to block.
func (p *probe) start(src configsrc.Source, after configsrc.Version) *call {
	p.Helper()
	ctx, cancel := context.WithCancel(p.ctx)
	c := p.startWith(ctx, src, after)
	c.cancel = cancel
	p.wait(c.done, p.moment())
	return c
}

func (p *probe) startWith(ctx context.Context, src configsrc.Source, after configsrc.Version) *call {
	c := &call{p: p, done: make(chan struct{})}
	c.recount()
	p.calls.Go(func() {
		defer close(c.done)
		c.snap, c.err = src.Next(ctx, after)
	})
	return c
}

// moment is long enough for a call to get to where it blocks.
func (p *probe) moment() time.Duration {
	if p.h.Virtual {
		return min(p.h.Within, time.Second)
	}
	return 100 * time.Millisecond
}

// wait reports whether done was closed within d.
func (p *probe) wait(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// eventually polls cond for d at most.
func (p *probe) eventually(d time.Duration, cond func() bool) bool {
	never := make(chan struct{})
	for end := time.Now().Add(d); !cond(); p.wait(never, 5*time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// blocks checks that the call does not return for d.
func (c *call) blocks(d time.Duration, why string) {
	c.p.Helper()
	if c.p.wait(c.done, d) {
		c.p.Fatalf("%s: Next must block, and returned: %s", why, c.outcome())
	}
}

// idles checks that the call goes on blocking for d, and keeps to the requests
// that are promised for that.
func (c *call) idles(d time.Duration, why string) {
	c.p.Helper()
	c.blocks(d, why)
	if c.p.b.Requests == nil {
		return
	}
	promised := c.p.h.IdleRequests * int((d+c.p.h.Idle-1)/c.p.h.Idle)
	if n := c.p.b.Requests() - c.asked; n > promised {
		c.p.Fatalf("%s: %d requests in %v, promised are %d at most", why, n, d, promised)
	}
}

// recount makes idles count from now: what happened so far had its price.
func (c *call) recount() {
	if c.p.b.Requests != nil {
		c.asked = c.p.b.Requests()
	}
}

// returns checks that the call returns within d.
func (c *call) returns(d time.Duration, why string) (configsrc.Snapshot, error) {
	c.p.Helper()
	if !c.p.wait(c.done, d) {
		c.p.Fatalf("%s: Next did not return within %v", why, d)
	}
	if c.err != nil {
		c.p.checkError(c.err, why)
	} else {
		c.p.checkSnapshot(c.snap, why)
	}
	return c.snap, c.err
}

// stop ends a call that is blocked.
func (c *call) stop() {
	c.p.Helper()
	c.cancel()
	if !c.p.wait(c.done, limitCancel) {
		c.p.Fatalf("Next did not return within %v of the end of its context", limitCancel)
	}
	if !isExactly(c.err, context.Canceled) {
		c.p.Fatalf("Next was cancelled and did not return ctx.Err(): %s", c.outcome())
	}
}

// isExactly: the contract says ctx.Err() itself, so that nobody takes the end of
// a context for an error of the source.
func isExactly(err, want error) bool { return err == want } //nolint:errorlint // see above

func (c *call) outcome() string {
	if c.err != nil {
		return fmt.Sprintf("error %q", c.err)
	}
	return fmt.Sprintf("a snapshot of %d keys", len(c.snap.Values))
}

func (p *probe) next(src configsrc.Source, after configsrc.Version, why string) (configsrc.Snapshot, error) {
	p.Helper()
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	return p.startWith(ctx, src, after).returns(p.h.Within, why)
}

// gets checks that Next returns want, soon.
func (p *probe) gets(src configsrc.Source, after configsrc.Version, want map[string]string, why string) configsrc.Snapshot {
	p.Helper()
	snap, err := p.next(src, after, why)
	p.is(snap, err, want, why)
	return snap
}

func (p *probe) is(snap configsrc.Snapshot, err error, want map[string]string, why string) {
	p.Helper()
	if err != nil {
		p.Fatalf("%s: %v", why, err)
	}
	if w := texts(want); snap.Values.Hash() != w.Hash() {
		p.Fatalf("%s: the snapshot holds another content: %s", why, difference(snap.Values, w))
	}
}

// fails checks that Next returns an error of that kind, soon, and returns the
// error's version. The kind nil is "none of the three".
func (p *probe) fails(src configsrc.Source, after configsrc.Version, kind error, why string) configsrc.Version {
	p.Helper()
	_, err := p.next(src, after, why)
	return p.isError(err, kind, why)
}

func (p *probe) isError(err, kind error, why string) configsrc.Version {
	p.Helper()
	if err == nil {
		p.Fatalf("%s: want an error, got a snapshot", why)
	}
	for _, k := range []error{configsrc.ErrNotFound, configsrc.ErrDenied, configsrc.ErrInvalid} {
		if errors.Is(err, k) != (k == kind) { //nolint:errorlint // which sentinel is asked for
			p.Fatalf("%s: want the kind %v, got: %v", why, kind, err)
		}
	}
	return p.checkError(err, why)
}

// anyError checks that Next returns an error, soon, of whatever kind.
func (p *probe) anyError(src configsrc.Source, after configsrc.Version, why string) {
	p.Helper()
	if _, err := p.next(src, after, why); err == nil {
		p.Fatalf("%s: want an error, got a snapshot", why)
	}
}

// checkError checks what holds for every error, and returns its version.
func (p *probe) checkError(err error, why string) configsrc.Version {
	p.Helper()
	p.mu.Lock()
	p.texts = append(p.texts, err.Error(), fmt.Sprintf("%+v", err))
	p.mu.Unlock()
	var e *configsrc.Error
	if !errors.As(err, &e) {
		p.Fatalf("%s: the error is a %T, not a *configsrc.Error", why, err)
	}
	if e.Backend == "" || e.Op == "" || e.Address == "" {
		p.Fatalf("%s: the error lacks Backend, Op or Address: %v", why, err)
	}
	return e.Version
}

// checkSnapshot checks what holds for every snapshot.
func (p *probe) checkSnapshot(s configsrc.Snapshot, why string) {
	p.Helper()
	if s.Version.Content != s.Values.Hash() {
		p.Fatalf("%s: Version.Content is not the hash of the values", why)
	}
	if s.Notified.IsZero() || s.Fetched.IsZero() || s.Fetched.Before(s.Notified) {
		p.Fatalf("%s: Notified and Fetched must be set, and in this order", why)
	}
	if err := s.Values.Check(configsrc.Limits{}); err != nil {
		p.Fatalf("%s: the values break the contract: %v", why, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.published[s.Version.Content] {
		p.Fatalf("%s: the snapshot holds a content that was never published; beside the last that was: %s",
			why, difference(s.Values, p.last))
	}
	p.texts = append(p.texts, s.Label)
	for _, v := range s.Values {
		p.texts = append(p.texts, v.Origin.Source+" "+v.Origin.Name)
		if v.Origin.Source == "" {
			p.Fatalf("%s: a value without Origin.Source", why)
		}
	}
	p.taken = append(p.taken, taken{s, maps.Clone(s.Values)})
}

// until calls Next as the manager does, through errors, until it returns want.
// It is given d for that.
func (p *probe) until(src configsrc.Source, after configsrc.Version, want map[string]string, d time.Duration, why string) configsrc.Snapshot {
	p.Helper()
	never := make(chan struct{})
	last := "it has returned nothing"
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			p.Fatalf("%s: not found within %v; at last: %s", why, d, last)
		}
		ctx, cancel := context.WithCancel(p.ctx)
		c := p.startWith(ctx, src, after)
		ended := p.wait(c.done, left)
		cancel()
		if !ended {
			continue
		}
		last = c.outcome()
		if c.err == nil {
			p.checkSnapshot(c.snap, why)
			if c.snap.Version.Content == texts(want).Hash() {
				return c.snap
			}
			after = c.snap.Version
			continue
		}
		if v := p.checkError(c.err, why); !v.IsZero() {
			after = v
			continue
		}
		p.wait(never, min(p.moment(), d/10))
	}
}
