package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// client sends one request after the other.
type client struct {
	load   *Load
	group  *Group // of load.result; under its lock
	fresh  bool
	random *rand.Rand // nil: it does not think

	conn   conn // nil: none
	opened int  // connections so far
	timer  *time.Timer
}

// afterRefusal is the pause after a connection that did not come about: a server
// that is gone is asked a few hundred times a second, not without end.
const afterRefusal = 5 * time.Millisecond

// run sends until the load is stopped or ctx ends. It calls begun after the
// first request.
func (c *client) run(ctx context.Context, begun func()) {
	c.timer = time.NewTimer(0)
	defer c.timer.Stop()
	defer c.end()
	pause := c.request(ctx)
	begun()
	for c.wait(ctx, pause) {
		pause = c.request(ctx)
	}
}

// wait lets a pause pass, and reports whether to go on.
func (c *client) wait(ctx context.Context, pause time.Duration) bool {
	if pause > 0 {
		c.timer.Reset(pause)
		select {
		case <-c.timer.C:
		case <-c.load.stop:
		case <-ctx.Done():
		}
	}
	select {
	case <-c.load.stop:
		return false
	case <-ctx.Done():
		return false
	default:
		return true
	}
}

// request sends one request and returns the pause that follows it.
func (c *client) request(ctx context.Context) (pause time.Duration) {
	if c.random != nil {
		pause = c.load.options.think(c.random)
	}
	id := c.next()
	began := time.Now()
	for {
		if c.conn != nil && c.conn.ended() {
			c.lose(func(g *Group) { g.Ended++ })
		}
		if c.conn == nil {
			if err := c.open(ctx); err != nil {
				c.fail(ctx, &failure{Connect, err})
				return max(pause, afterRefusal)
			}
			if !c.fresh {
				began = time.Now() // the connecting is no part of the answer
			}
		}
		a, err := c.conn.send(ctx, id)
		if errors.Is(err, errNotSent) && ctx.Err() == nil {
			c.lose(func(g *Group) { g.Ended++ })
			continue
		}
		if err != nil {
			c.fail(ctx, err)
			c.lose(nil)
			return pause
		}
		c.succeed(id, time.Since(began))
		switch {
		case c.fresh:
			c.lose(nil)
		case a.last:
			c.lose(func(g *Group) { g.Told++ })
		}
		return pause
	}
}

func (c *client) open(ctx context.Context) (err error) {
	if c.conn, err = c.load.dialer.open(ctx, c.load.options.Timeout, c.fresh); err != nil {
		c.conn = nil
		return err
	}
	c.opened++
	return nil
}

// lose gives the connection up, for a reason that is counted where there is one.
func (c *client) lose(count func(*Group)) {
	unasked := c.conn.close()
	c.conn = nil
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	if count != nil && !c.fresh {
		count(c.group)
	}
	if unasked != nil {
		c.group.fail(unasked)
	}
}

// end gives the connection up because there is nothing more to send. It counts
// as one that the server has ended, where it has.
func (c *client) end() {
	kept := !c.fresh && c.opened == 1 && c.conn != nil
	if c.conn != nil {
		var count func(*Group)
		if c.conn.ended() {
			kept, count = false, func(g *Group) { g.Ended++ }
		}
		c.lose(count)
	}
	if kept {
		c.load.mu.Lock()
		defer c.load.mu.Unlock()
		c.group.Kept++
	}
}

// next makes an id, and counts the request.
func (c *client) next() uint64 {
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	c.load.last++
	return c.load.last
}

func (c *client) succeed(id uint64, took time.Duration) {
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	c.load.answered.add(id)
	c.group.Requests++
	c.group.Answered++
	// It cannot fail: the value is within the bounds of the histogram.
	_ = c.group.latency.RecordValue(min(max(took, time.Microsecond), longest).Microseconds())
}

// fail counts a request that failed, unless ctx was the cause.
func (c *client) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	c.group.Requests++
	c.group.fail(err)
}

func (g *Group) fail(err error) {
	kind := Receive
	if f, ok := errors.AsType[*failure](err); ok {
		kind = f.kind
	}
	sum := g.Failures[kind]
	sum.Count++
	if len(sum.Texts) < maxTexts {
		sum.Texts = append(slices.Clip(sum.Texts), err.Error())
	}
	g.Failures[kind] = sum
}
