package reload

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/hotsvc/svc/configsrc"
)

// TestModel drives a manager with random contents and faults and compares it,
// after each step, with a model of what must be in force.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var open atomic.Int64
		faulty := map[string]bool{} // by resource
		r := newRig(t, pairYAML(0), nil)
		names := []string{"first", "second", "third"}
		resources := make([]*Resource[settings, *pool], len(names))
		for i, name := range names {
			resources[i] = registerPool(r, name, &open, func() error {
				if faulty[name] {
					return errors.New("faulty")
				}
				return nil
			})
		}
		ctx, cancel := context.WithCancel(context.Background())
		if err := r.Start(ctx); err != nil {
			rt.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				rt.Fatal(err)
			}
			if n := open.Load(); n != 0 {
				rt.Fatalf("%d resources open at the end", n)
			}
		}()

		inForce := struct{ pair, workers, timeout int }{0, 4, 1}
		content := func(pair, workers, timeout int) string {
			return fmt.Sprintf("%sworkers: %d\ntimeout: %ds\n", pairYAML(pair), workers, timeout)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"fault": func(rt *rapid.T) {
				for _, name := range names {
					faulty[name] = rapid.Bool().Draw(rt, name)
				}
			},
			"good": func(rt *rapid.T) {
				pair := rapid.IntRange(0, 3).Draw(rt, "pair")
				workers := rapid.IntRange(3, 5).Draw(rt, "workers")
				timeout := rapid.IntRange(1, 3).Draw(rt, "timeout")
				e := r.reload(t, content(pair, workers, timeout))
				fails := pair != inForce.pair && (faulty["first"] || faulty["second"] || faulty["third"])
				remembered := e.Outcome == Refused && !fails // refused before, not built again
				switch {
				case remembered:
				case workers != inForce.workers:
					if e.Outcome != RestartRequired {
						rt.Fatalf("outcome %s (%s), want %s", e.Outcome, e.Reason, RestartRequired)
					}
				case fails:
					if e.Outcome != Refused {
						rt.Fatalf("outcome %s (%s), want %s", e.Outcome, e.Reason, Refused)
					}
				case !e.Outcome.Good():
					rt.Fatalf("outcome %s (%s)", e.Outcome, e.Reason)
				}
				if e.Outcome == Refused || e.Outcome == RestartRequired && r.Load().Config.Pair.A != pair {
					return // the invariants look at what is in force
				}
				inForce.pair, inForce.timeout = pair, timeout
			},
			"bad": func(rt *rapid.T) {
				yaml := rapid.SampledFrom([]string{"workers: 0", "pair: {a: 1, b: 2}", "timeout: soon", "listen: []"}).Draw(rt, "yaml")
				want(t, r.reload(t, yaml), Refused)
			},
			"gone": func(*rapid.T) {
				r.source.fail(configsrc.ErrNotFound, "gone")
				if e := r.reread(t); e.Outcome != Failed {
					rt.Fatalf("outcome %s", e.Outcome)
				}
			},
			"": func(rt *rapid.T) {
				c := r.Load().Config
				if c.Pair.A != c.Pair.B || c.Pair.A != inForce.pair || c.Workers != inForce.workers {
					rt.Fatalf("in force %+v, the model has %+v", c, inForce)
				}
				for i, res := range resources {
					if p := res.Get(r.Load()); p.n != c.Pair.A || p.closed.Load() {
						rt.Fatalf("resource %d is of %d, closed %v", i, p.n, p.closed.Load())
					}
				}
			},
		})
	})
}
