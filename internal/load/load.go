package load

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Options say who sends how.
type Options struct {
	Target Target
	Fresh  int // clients with a fresh connection for each request
	Busy   int // clients that send request after request on one connection
	Idle   int // clients that think before each request on one connection
	// ThinkMin and ThinkMax bound the think times, which are spread evenly over their
	// logarithm: as many between 1 and 10 ms as between 1 and 10 s. Both are above 0
	// where there are idle clients.
	ThinkMin, ThinkMax time.Duration
	// Timeout bounds the connecting, and each answer; 0 is 10 s.
	Timeout time.Duration
	// Seed is for the think times.
	Seed uint64
}

func (o Options) validate() error {
	if err := o.Target.validate(); err != nil {
		return err
	}
	switch {
	case o.Fresh < 0 || o.Busy < 0 || o.Idle < 0 || o.Timeout < 0:
		return errors.New("load: a number is below zero")
	case o.Fresh+o.Busy+o.Idle == 0:
		return errors.New("load: there are no clients")
	case o.Idle > 0 && (o.ThinkMin <= 0 || o.ThinkMax < o.ThinkMin):
		return errors.New("load: the think times are not bounded")
	}
	return nil
}

// Load is clients at work. Its methods may be called from many goroutines.
type Load struct {
	options Options
	dialer  *dialer
	stop    chan struct{} // closed when no more is to be sent
	stopped sync.Once
	running sync.WaitGroup
	ctx     context.Context //nolint:containedctx // that of Start, which the clients run under

	mu       sync.Mutex // guards what follows
	result   Result
	last     uint64 // the id of the last request
	answered ids
}

// Start starts the clients and returns when each of them has had an answer or a
// failure. They send until Stop is called, or until ctx ends, which cuts off what
// is under way. Stop must be called.
func Start(ctx context.Context, o Options) (*Load, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	l := &Load{
		options: o, dialer: newDialer(o.Target), stop: make(chan struct{}), ctx: ctx,
		result: Result{Fresh: newGroup(o.Fresh), Busy: newGroup(o.Busy), Idle: newGroup(o.Idle)},
	}
	var begun sync.WaitGroup
	for _, kind := range []struct {
		group *Group
		fresh bool
		think bool
	}{
		{&l.result.Fresh, true, false},
		{&l.result.Busy, false, false},
		{&l.result.Idle, false, true},
	} {
		for i := range kind.group.Clients {
			c := &client{load: l, group: kind.group, fresh: kind.fresh}
			if kind.think {
				c.random = rand.New(rand.NewPCG(o.Seed, uint64(i))) //nolint:gosec // a pause needs no secrecy
			}
			begun.Add(1)
			l.running.Go(func() { c.run(ctx, begun.Done) })
		}
	}
	begun.Wait()
	return l, nil
}

// Result returns what has been seen so far. A request that is under way is in no
// number.
func (l *Load) Result() Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Result{Fresh: l.result.Fresh.clone(), Busy: l.result.Busy.clone(), Idle: l.result.Idle.clone()}
}

// Stop waits for the answers that are under way, closes the connections and
// returns what was seen. The error is that of the context of [Start], where it
// ended before. Calls after the first one return the same.
func (l *Load) Stop() (Result, error) {
	l.stopped.Do(func() { close(l.stop) })
	l.running.Wait()
	return l.Result(), l.ctx.Err()
}

// Executions compares a record with what was answered. Call it after Stop, and
// when all who write into the record have ended.
func (l *Load) Executions(record string) (Executions, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var e Executions
	var executed, twice ids
	err := ReadRecord(record, func(id uint64) {
		switch {
		case id == 0 || id > l.last:
			e.Unknown++
		case executed.add(id):
			e.Executed++
			if !l.answered.has(id) {
				e.Unanswered++
			}
		case twice.add(id):
			e.Twice++
		}
	})
	if err != nil {
		return Executions{}, err
	}
	for id := uint64(1); id <= l.last; id++ {
		if l.answered.has(id) && !executed.has(id) {
			e.Missing++
		}
	}
	return e, nil
}

// think draws a think time.
func (o Options) think(random *rand.Rand) time.Duration {
	low, high := math.Log(float64(o.ThinkMin)), math.Log(float64(o.ThinkMax))
	return time.Duration(math.Exp(low + random.Float64()*(high-low)))
}
