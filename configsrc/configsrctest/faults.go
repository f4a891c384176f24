package configsrctest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hotsvc/svc/configsrc"
)

// faultRules: what a call makes of a backend that fails.
func faultRules() []rule {
	return []rule{
		{"invalid content is an error until it is other", []string{"Break"}, broken},
		{"the last good content after invalid content is news", []string{"Break"}, restored},
		{"access denied is said and passes", []string{"Deny"}, denied},
		{"access lost under a blocked call is said and passes", []string{"Deny"}, deniedBlocked},
		{"an unreachable backend is said and passes", []string{"Down"}, down},
		{"one failed request loses nothing", []string{"Fail"}, failedOnce},
		{"an answer that is none is an error", []string{"Garble"}, garbled},
		{"a redirect is an error and nothing follows it", []string{"Redirect"}, redirected},
		{"no secret shows in an error, label or log", []string{"Secrets"}, secretive},
	}
}

func broken(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	c := p.start(src, snap.Version)
	p.b.Break(canary)
	_, err := c.returns(p.h.Within, "broken under a blocked call")
	seen := p.invalid(err, "broken under a blocked call")
	p.idles(src, seen, "broken and nothing changes")
	_, err = p.next(src, snap.Version, "broken, from the last good version")
	p.invalid(err, "broken, from the last good version")
	c = p.start(src, seen)
	p.publish(content(2))
	snap, err = c.returns(p.h.Within, "mended")
	p.is(snap, err, content(2), "mended")

	p.b.Break(canary)
	_, err = p.next(src, snap.Version, "broken between two calls")
	seen = p.invalid(err, "broken between two calls")
	p.publish(content(3))
	p.gets(src, seen, content(3), "mended between two calls")
}

func (p *probe) invalid(err error, why string) configsrc.Version {
	p.Helper()
	seen := p.isError(err, configsrc.ErrInvalid, why)
	if seen.IsZero() {
		p.Fatalf("%s: ErrInvalid carries no Version, so its caller would spin", why)
	}
	return seen
}

func restored(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for range 2 {
		p.b.Break(canary)
		_, err := p.next(src, snap.Version, "broken")
		seen := p.invalid(err, "broken")
		c := p.start(src, seen)
		c.idles(p.moment(), "broken and nothing changes")
		p.publish(content(1))
		got, err := c.returns(p.h.Within, "the last good content is back")
		p.is(got, err, content(1), "the last good content is back")
		// Who never saw the broken content has nothing to learn.
		c = p.start(src, snap.Version)
		c.idles(p.h.Quiet, "the last good content is back, from its own version")
		c.stop()
	}
}

func denied(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	p.b.Deny()
	p.fails(src, configsrc.Version{}, configsrc.ErrDenied, "denied")
	seen := p.fails(src, snap.Version, configsrc.ErrDenied, "denied, from the last good version")
	if !seen.IsZero() {
		p.idles(src, seen, "denied and nothing changes")
	}
	p.b.Allow()
	p.until(src, seen, content(1), p.h.Resync, "allowed again")
	p.gets(src, configsrc.Version{}, content(1), "allowed, read again")
	c := p.start(src, snap.Version)
	c.idles(p.h.Quiet, "allowed again, and nothing has changed")
	c.stop()

	p.b.Deny()
	p.fails(src, snap.Version, configsrc.ErrDenied, "denied once more")
	p.publish(content(2))
	p.b.Allow()
	p.gets(src, snap.Version, content(2), "changed while denied")
}

// deniedBlocked gives the call the time of a lost signal: a backend may go on
// serving the query that is open, and refuse the next.
func deniedBlocked(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for n := 2; n <= 3; n++ {
		c := p.start(src, snap.Version)
		c.blocks(p.moment(), "before access was lost")
		p.b.Deny()
		_, err := c.returns(p.h.Resync, "access lost under a blocked call")
		seen := p.isError(err, configsrc.ErrDenied, "access lost under a blocked call")
		p.b.Allow()
		p.until(src, seen, content(n-1), p.h.Resync, "allowed again")
		c = p.start(src, snap.Version)
		c.idles(p.h.Quiet, "allowed again, and nothing has changed")
		p.publish(content(n))
		snap, err = c.returns(p.h.Within, "changed after access was back")
		p.is(snap, err, content(n), "changed after access was back")
	}
}

func down(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	p.b.Down()
	p.fails(src, configsrc.Version{}, nil, "unreachable")
	p.fails(src, snap.Version, nil, "unreachable, from the last good version")
	p.publish(content(2))
	p.fails(src, snap.Version, nil, "unreachable and changed")
	p.b.Up()
	snap = p.gets(src, snap.Version, content(2), "reachable again")

	// The same under a call that is blocked. Its driver may notice, or not.
	c := p.start(src, snap.Version)
	p.b.Down()
	p.publish(content(3))
	p.wait(c.done, p.moment())
	p.b.Up()
	got, err := c.returns(p.h.Resync, "reachable again under a blocked call")
	if err != nil {
		p.isError(err, nil, "unreachable under a blocked call")
		p.gets(src, snap.Version, content(3), "reachable again")
		return
	}
	p.is(got, nil, content(3), "reachable again under a blocked call")
}

// failedOnce strikes at each request of a driver's turn: the wait, the fetch
// after it, and what else it may ask.
func failedOnce(p *probe) {
	p.publish(content(0))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(0), "first call")
	for skip := range 4 {
		why := fmt.Sprintf("the request after %d answers failed", skip)
		c := p.start(src, snap.Version)
		p.b.Fail(skip)
		want := content(skip + 1)
		p.publish(want)
		if p.wait(c.done, p.h.Within) && c.err == nil {
			snap, _ = c.returns(0, why)
			p.is(snap, nil, want, why)
			// The failure is still to come: let it.
			c = p.start(src, snap.Version)
			want = content(100 + skip)
			p.publish(want)
		}
		if p.wait(c.done, p.h.Within) && c.err == nil {
			snap, _ = c.returns(0, why)
			p.is(snap, nil, want, why)
			continue
		}
		c.cancel()
		if p.wait(c.done, limitCancel) && !isExactly(c.err, context.Canceled) {
			p.checkError(c.err, why)
		}
		snap = p.until(src, snap.Version, want, p.h.Within, why)
	}
}

func garbled(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for i, name := range slices.Sorted(maps.Keys(p.b.Garble)) {
		p.b.Garble[name]()
		p.anyError(src, configsrc.Version{}, name)
		p.anyError(src, snap.Version, name+", from the last good version")
		p.b.Up()
		c := p.start(src, snap.Version)
		c.blocks(p.moment(), name+" is over")
		p.publish(content(i + 2))
		got, err := c.returns(p.h.Within, name+" is over")
		p.is(got, err, content(i+2), name+" is over")
		snap = got
	}
}

func redirected(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	strayed := p.b.Redirect()
	p.anyError(src, configsrc.Version{}, "redirected")
	p.anyError(src, snap.Version, "redirected, from the last good version")
	if n := strayed(); n != 0 {
		p.Fatalf("redirected: %d requests reached the other host", n)
	}
	p.b.Up()
	p.publish(content(2))
	p.gets(src, snap.Version, content(2), "no more redirected")
}

// secretive provokes every error that the harness can make; finish searches
// what came of them.
func secretive(p *probe) {
	src := p.open()
	p.fails(src, configsrc.Version{}, configsrc.ErrNotFound, "nothing there")
	p.publish(content(1))
	p.gets(src, configsrc.Version{}, content(1), "first call")
	if p.b.Break != nil {
		p.b.Break(canary)
		p.anyError(src, configsrc.Version{}, "broken")
		p.publish(content(2))
	}
	if p.b.has("Deny") {
		p.b.Deny()
		p.anyError(src, configsrc.Version{}, "denied")
		p.b.Allow()
	}
	if p.b.has("Down") {
		p.b.Down()
		p.anyError(src, configsrc.Version{}, "unreachable")
		p.b.Up()
	}
	if p.b.has("Redirect") {
		p.b.Redirect()
		p.anyError(src, configsrc.Version{}, "redirected")
		p.b.Up()
	}
	if p.b.has("Garble") {
		for name, garble := range p.b.Garble {
			garble()
			p.anyError(src, configsrc.Version{}, name)
			p.b.Up()
		}
	}
}
