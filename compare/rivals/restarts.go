package rivals

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hotsvc/svc/internal/load"
)

// RestartPlan says how much of the restarts is measured.
type RestartPlan struct {
	Restarts int           // of each system
	Turns    int           // in which these take turns; not more than Restarts
	Gap      time.Duration // from the end of a restart to the next trigger
	Load     load.Options  // the clients; the target is the system's
	Protocol Protocol
}

// Protocol is how requests get to a service.
type Protocol string

// The protocols.
const (
	OverTCP   Protocol = "tcp"  // HTTP/1.1
	OverTLS   Protocol = "tls"  // HTTP/1.1
	OverHTTP2 Protocol = "h2"   // over TLS
	OverUnix  Protocol = "unix" // HTTP/1.1
)

func protocols() []Protocol { return []Protocol{OverTCP, OverTLS, OverHTTP2, OverUnix} }

// restarts is what one system did.
type restarts struct {
	system     system
	accepting  []float64 // ms from the trigger until the new process has answered
	bare       []float64 // ms from a start without restarts until it has answered, in the same rounds
	refused    int       // triggers
	probes     uint64    // that failed; they are fresh connections too, but not of the load
	seen       load.Result
	executions load.Executions
}

// add adds what another turn has measured.
func (r *restarts) add(other restarts) {
	r.accepting = append(r.accepting, other.accepting...)
	r.bare = append(r.bare, other.bare...)
	r.refused += other.refused
	r.probes += other.probes
	r.seen.Add(other.seen)
	r.executions.Add(other.executions)
}

// measureRestarts restarts each system in turns, under load.
func measureRestarts(ctx context.Context, of []system, plan RestartPlan) ([]restarts, error) {
	if plan.Turns < 1 || plan.Restarts < plan.Turns {
		return nil, errors.New("restart: there are more turns than restarts, or none")
	}
	measured := make([]restarts, len(of))
	for i, s := range of {
		measured[i].system = s
	}
	for turn := range plan.Turns {
		n := plan.Restarts*(turn+1)/plan.Turns - plan.Restarts*turn/plan.Turns
		for k := range of {
			i := (turn + k) % len(of)
			r, err := restartTurn(ctx, of[i], n, plan)
			if err != nil {
				return nil, fmt.Errorf("restart %s: %w", of[i].name, err)
			}
			measured[i].add(r)
		}
	}
	return measured, nil
}

// restartTurn starts a system, restarts it n times under load, and ends it.
func restartTurn(ctx context.Context, s system, n int, plan RestartPlan) (r restarts, err error) {
	v, err := newService(ctx, s, plan.Protocol)
	if err != nil {
		return restarts{}, err
	}
	record := func() error { return nil }
	defer func() {
		// The record is complete when all processes have ended, and goes with
		// the service.
		err = errors.Join(err, v.stop(ctx, record))
	}()
	if err := v.start(ctx); err != nil {
		return restarts{}, err
	}
	options := plan.Load
	options.Target = v.target
	clients, err := load.Start(ctx, options)
	if err != nil {
		return restarts{}, err
	}
	err = v.restartOften(ctx, n, plan, &r)
	var stopErr error
	r.seen, stopErr = clients.Stop()
	record = func() (err error) {
		r.executions, err = clients.Executions(v.record)
		return err
	}
	return r, errors.Join(err, stopErr)
}

// restartOften restarts a service n times, and measures a start beside each.
func (v *service) restartOften(ctx context.Context, n int, plan RestartPlan, r *restarts) error {
	timer := time.NewTimer(plan.Gap)
	defer timer.Stop()
	for range n {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		bare, err := startBare(ctx, plan.Protocol)
		if err != nil {
			return err
		}
		took, probes, err := v.restart(ctx)
		if err != nil {
			return err
		}
		r.bare = append(r.bare, milliseconds(bare))
		r.accepting = append(r.accepting, milliseconds(took))
		r.probes += probes
		timer.Reset(plan.Gap)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r.refused = v.refused
	return nil
}

// probeTimeout is how long a probe may wait for its answer.
const probeTimeout = time.Second

// restart triggers a restart, and returns when the next may be triggered. took is
// the time from the trigger to the answer of a new process on a fresh connection.
// A trigger that was refused is repeated, and the time is that of the last one.
func (v *service) restart(ctx context.Context) (took time.Duration, failed uint64, err error) {
	prober, err := load.NewProber(v.target)
	if err != nil {
		return 0, 0, err
	}
	v.mu.Lock()
	known, refused := map[int]bool{}, v.refused
	for pid := range v.served {
		known[pid] = true
	}
	v.mu.Unlock()
	limit := time.Now().Add(startLimit)
	began := time.Now()
	if err := v.trigger(); err != nil {
		return 0, 0, err
	}
	pid := 0
	for {
		if pid, err = prober.Probe(ctx, probeTimeout); err == nil && !known[pid] {
			took = time.Since(began)
			break
		} else if err != nil {
			failed++
		}
		v.mu.Lock()
		again, reason := v.refused > refused, v.refusal
		refused = v.refused
		v.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return 0, failed, ctx.Err()
		case time.Now().After(limit):
			return 0, failed, errors.Join(fmt.Errorf("no new process has answered within %v (last refusal: %q)", startLimit, reason), err)
		case again:
			began = time.Now()
			if err := v.trigger(); err != nil {
				return 0, failed, err
			}
		}
	}
	err = v.await(ctx, startLimit+drainLimit, func() bool {
		if v.system.alone && len(v.processes) > 1 {
			return false
		}
		for _, p := range v.processes {
			if p.pid == pid {
				return p.serving && (p.alone || !v.system.alone)
			}
		}
		return false
	})
	if err != nil {
		return 0, failed, fmt.Errorf("wait for the end of the restart: %w", err)
	}
	return took, failed, nil
}

// startBare starts the same server without restarts, and returns how long it took
// until it answered. Its listener is there before, so that the first connection
// waits for the process and not the other way round.
func startBare(ctx context.Context, p Protocol) (took time.Duration, err error) {
	s, _ := systemOf(systemBare)
	v, err := newService(ctx, s, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.stop(ctx, nil)) }()
	if err := v.inherit(ctx); err != nil {
		return 0, err
	}
	prober, err := load.NewProber(v.target)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := v.launch(); err != nil {
		return 0, err
	}
	if _, err := prober.Probe(ctx, startLimit); err != nil {
		return 0, err
	}
	took = time.Since(began)
	return took, v.await(ctx, startLimit, func() bool { return len(v.served) > 0 })
}
