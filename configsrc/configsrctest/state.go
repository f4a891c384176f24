package configsrctest

import (
	"maps"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// stateRules: what a call returns, and when.
func stateRules() []rule {
	return []rule{
		{"the first call returns the whole state at once", nil, firstCall},
		{"nothing there is not found, until something is", nil, nothingThere},
		{"a call blocks while nothing changes and hardly talks", []string{"Requests"}, idle},
		{"a publication wakes a blocked call", nil, wakes},
		{"a publication wakes every instance", nil, wakesAll},
		{"a change between two calls is found at once", nil, between},
		{"a deleted key disappears", nil, deletedKey},
		{"all deleted is not found and never empty", []string{"Delete"}, deletedAll},
		{"a burst ends at the last state and none is torn", nil, burst},
		{"a lost signal is made good", []string{"LoseSignals"}, lostSignals},
		{"a position that goes back hides nothing", []string{"Rewind"}, rewound},
		{"a write of equal content is silent", []string{"Touch"}, touched},
		{"a snapshot never changes", nil, immutable},
	}
}

func firstCall(p *probe) {
	p.publish(content(1))
	src := p.open()
	p.gets(src, configsrc.Version{}, content(1), "first call")
	p.gets(src, configsrc.Version{}, content(1), "first call once more")
	p.publish(content(2))
	p.gets(src, configsrc.Version{}, content(2), "zero version after a change")
}

func nothingThere(p *probe) {
	src := p.open()
	seen := p.fails(src, configsrc.Version{}, configsrc.ErrNotFound, "nothing there")
	if !seen.IsZero() {
		c := p.start(src, seen)
		c.idles(p.h.Quiet, "still nothing there")
		p.publish(content(1))
		snap, err := c.returns(p.h.Within, "now something is there")
		p.is(snap, err, content(1), "now something is there")
		return
	}
	p.publish(content(1))
	p.gets(src, configsrc.Version{}, content(1), "now something is there")
}

func idle(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	p.idles(src, snap.Version, "nothing changes")
	p.gets(src, configsrc.Version{}, content(1), "after the idle time")
}

// idles checks that a call blocks for the idle time, within the requests that
// are promised for it.
func (p *probe) idles(src configsrc.Source, after configsrc.Version, why string) {
	p.Helper()
	c := p.start(src, after)
	c.idles(p.h.Idle, why)
	c.stop()
}

func wakes(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for n := 2; n <= 4; n++ {
		c := p.start(src, snap.Version)
		c.blocks(p.moment(), "before the publication")
		p.publish(content(n))
		var err error
		snap, err = c.returns(p.h.Within, "after the publication")
		p.is(snap, err, content(n), "after the publication")
	}
}

func wakesAll(p *probe) {
	p.publish(content(1))
	one, two := p.open(), p.open()
	a := p.start(one, p.gets(one, configsrc.Version{}, content(1), "one").Version)
	b := p.start(two, p.gets(two, configsrc.Version{}, content(1), "two").Version)
	p.publish(content(2))
	for _, c := range []*call{a, b} {
		snap, err := c.returns(p.h.Within, "two instances")
		p.is(snap, err, content(2), "two instances")
	}
}

func between(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	for n := 2; n <= 5; n++ {
		p.publish(content(n))
		snap = p.gets(src, snap.Version, content(n), "published before the call")
	}
	// Once more after a call that was blocked and given up.
	p.start(src, snap.Version).stop()
	p.publish(content(6))
	p.gets(src, snap.Version, content(6), "published after a cancelled call")
}

func deletedKey(p *probe) {
	more := content(1)
	more["suite.extra"] = canary
	p.publish(more)
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, more, "first call")
	c := p.start(src, snap.Version)
	p.publish(content(1))
	snap, err := c.returns(p.h.Within, "a key is gone")
	p.is(snap, err, content(1), "a key is gone")
	p.publish(more)
	p.gets(src, snap.Version, more, "the key is back")
}

func deletedAll(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	c := p.start(src, snap.Version)
	p.b.Delete()
	_, err := c.returns(p.h.Within, "deleted under a blocked call")
	seen := p.isError(err, configsrc.ErrNotFound, "deleted under a blocked call")
	p.fails(src, configsrc.Version{}, configsrc.ErrNotFound, "deleted, read again")
	p.fails(src, snap.Version, configsrc.ErrNotFound, "deleted, from the last good version")
	if !seen.IsZero() {
		p.idles(src, seen, "deleted and nothing changes")
	}
	// The very content that was there before is news to who saw the deletion.
	p.publish(content(1))
	p.until(src, seen, content(1), p.h.Within, "the same content is back")
	p.publish(content(2))
	p.until(src, seen, content(2), p.h.Within, "other content is there")
}

func burst(p *probe) {
	p.publish(content(0))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(0), "first call")
	done := make(chan struct{})
	never := make(chan struct{})
	p.calls.Go(func() {
		defer close(done)
		for n := 1; n <= p.h.Burst && p.ctx.Err() == nil; n++ {
			p.publish(content(n))
			if p.h.Virtual {
				p.wait(never, time.Millisecond) // else no virtual time would pass
			}
		}
	})
	end := content(p.h.Burst)
	// Each publication may take its time on a real backend.
	for last := [32]byte{}; ; {
		c := p.start(src, snap.Version)
		select {
		case <-c.done:
		case <-done:
			// One of the last may have been seen in the call before.
			if last == texts(end).Hash() {
				c.stop()
				return
			}
		}
		got, err := c.returns(p.h.Within, "in the burst")
		if err != nil {
			p.Fatalf("in the burst: %v", err)
		}
		snap, last = got, got.Version.Content
	}
}

func lostSignals(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	p.b.LoseSignals()
	for n := 2; n <= 4; n++ {
		c := p.start(src, snap.Version)
		p.publish(content(n))
		var err error
		snap, err = c.returns(p.h.Resync, "the signal was lost")
		p.is(snap, err, content(n), "the signal was lost")
	}
}

func rewound(p *probe) {
	for n := 1; n <= 5; n++ {
		p.publish(content(n)) // so that there is a position to go back from
	}
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(5), "first call")
	c := p.start(src, snap.Version)
	p.allow(texts(content(2)))
	p.b.Rewind(content(2))
	snap, err := c.returns(p.h.Resync, "the position went back")
	p.is(snap, err, content(2), "the position went back")
	c = p.start(src, snap.Version)
	c.idles(p.h.Quiet, "after the position went back")
	p.publish(content(6))
	snap, err = c.returns(p.h.Resync, "published at a lower position")
	p.is(snap, err, content(6), "published at a lower position")
	p.allow(texts(content(3)))
	p.b.Rewind(content(3))
	p.gets(src, snap.Version, content(3), "the position went back between two calls")
}

func touched(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	c := p.start(src, snap.Version)
	for range 3 {
		p.b.Touch()
		c.blocks(p.moment(), "equal content was written")
	}
	c.recount()
	c.idles(p.h.Quiet, "equal content was written")
	p.publish(content(2))
	snap, err := c.returns(p.h.Within, "other content after equal content")
	p.is(snap, err, content(2), "other content after equal content")
	p.b.Touch()
	p.idles(src, snap.Version, "equal content was written between two calls")
}

func immutable(p *probe) {
	// finish compares every snapshot with a copy of it.
	p.publish(content(1))
	src := p.open()
	first := p.gets(src, configsrc.Version{}, content(1), "first call")
	kept := maps.Clone(first.Values)
	p.publish(content(2))
	p.gets(src, first.Version, content(2), "second content")
	p.gets(src, configsrc.Version{}, content(2), "read again")
	if first.Values.Hash() != kept.Hash() {
		p.Fatal("a later call changed an earlier snapshot")
	}
	// Two snapshots share nothing either: the receiver may keep one map and
	// drop the other.
	again := p.gets(src, configsrc.Version{}, content(2), "read again")
	if again.Version.Content != again.Values.Hash() {
		p.Fatal("a later snapshot does not match its version")
	}
}
