package configsrctest

import (
	"context"
	"fmt"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

const cycles = 100

// endRules: how a call and a source end.
func endRules() []rule {
	return []rule{
		{"a context that has ended ends the call", nil, cancelledBefore},
		{"a blocked call ends with its context", nil, cancelledBlocked},
		{"a call on a backend that hangs ends with its context", []string{"Hang", "Open"}, cancelledHanging},
		{"a call in the middle of an answer ends with its context", []string{"Stall", "Open"}, cancelledMidway},
		{"a source leaves nothing behind", nil, opensAndCloses},
	}
}

func cancelledBefore(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for _, after := range []configsrc.Version{{}, snap.Version} {
		ctx, cancel := context.WithCancel(p.ctx)
		cancel()
		c := p.startWith(ctx, src, after)
		if !p.wait(c.done, limitCancel) || !isExactly(c.err, context.Canceled) {
			p.Fatal("Next with an ended context must return ctx.Err() at once")
		}
	}
	p.gets(src, configsrc.Version{}, content(1), "after cancelled calls")
}

func cancelledBlocked(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	c := p.start(src, snap.Version)
	c.blocks(p.moment(), "nothing changes")
	c.stop()
	p.noneOpen("after a cancelled call")

	ctx, cancel := context.WithTimeout(p.ctx, p.moment())
	defer cancel()
	c = p.startWith(ctx, src, snap.Version)
	if !p.wait(c.done, p.moment()+limitCancel) || !isExactly(c.err, context.DeadlineExceeded) {
		p.Fatal("Next must return ctx.Err() within a second of its deadline")
	}
	p.noneOpen("after a deadline")

	// At odd moments, not only where a call is sure to be blocked.
	for i := range 20 {
		ctx, cancel := context.WithTimeout(p.ctx, time.Duration(i)*300*time.Microsecond)
		c := p.startWith(ctx, src, snap.Version)
		if !p.wait(c.done, 10*time.Millisecond+limitCancel) || !isExactly(c.err, context.DeadlineExceeded) {
			p.Fatal("Next must return ctx.Err() within a second of its deadline")
		}
		cancel()
	}
	p.publish(content(2))
	p.gets(src, snap.Version, content(2), "after cancelled calls")
}

// noneOpen checks that the backend has seen the requests go.
func (p *probe) noneOpen(why string) {
	p.Helper()
	if p.b.Open == nil {
		return
	}
	// A connection may stay for the next call, a request may not.
	p.release()
	if !p.eventually(limitCancel, func() bool { return p.b.Open() == 0 }) {
		p.Fatalf("%s: %d requests are still open at the backend", why, p.b.Open())
	}
}

func cancelledHanging(p *probe) {
	p.publish(content(0))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(0), "first call")
	for skip := range 3 {
		for _, after := range []configsrc.Version{{}, snap.Version} {
			why := fmt.Sprintf("a backend that hangs after %d answers", skip)
			p.b.Hang(skip)
			c := p.start(src, after)
			p.publish(content(skip + 1))
			if !p.wait(c.done, p.moment()) {
				c.stop()
			} else if c.err == nil { // the answers before it were enough
				p.checkSnapshot(c.snap, why)
			}
			p.noneOpen(why)
			p.b.Up()
			snap = p.gets(src, configsrc.Version{}, content(skip+1), why+" and recovered")
		}
	}
}

func cancelledMidway(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for _, after := range []configsrc.Version{{}, snap.Version} {
		p.b.Stall()
		c := p.start(src, after)
		c.blocks(p.moment(), "half an answer has come")
		c.stop()
		p.noneOpen("half an answer has come")
		p.b.Up()
		p.gets(src, configsrc.Version{}, content(1), "whole answers come again")
	}
}

func opensAndCloses(p *probe) {
	p.publish(content(1))
	before := 0
	for i := range cycles {
		src := p.open()
		snap := p.gets(src, configsrc.Version{}, content(1), "first call")
		ctx, cancel := context.WithCancel(p.ctx)
		c := p.startWith(ctx, src, snap.Version)
		p.wait(c.done, time.Duration(i%3)*time.Millisecond) // cancel at different points
		cancel()
		if !p.wait(c.done, limitCancel) || !isExactly(c.err, context.Canceled) {
			p.Fatalf("open and close, cycle %d: a cancelled call returned %s", i, c.outcome())
		}
		p.closeAll()
		if i == 0 {
			p.release()
			before = descriptors()
		}
	}
	p.release()
	fewDescriptors(p, before)
}
