package rivals

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// maxChange is what a change may take, with many idle connections.
const maxChange = 20 // ms

// addReloading asks whether requests wait for reloads.
func (r *Report) addReloading(ctx context.Context, c *child, plan Plan) (err error) {
	senders, err := connect(ctx, c.Addresses[serverOurs], nil, plan.Serve.Conns, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, senders.close()) }()
	reloads := 0
	busy, quiet, err := pacedPairs(ctx, senders, plan.Serve, func(f func() error) error {
		if _, err := c.call(command{Op: opReload}); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
		n, err := c.call(command{Op: opQuiet})
		reloads += n.Reloads
		return err
	})
	if err != nil {
		return err
	}
	if reloads == 0 {
		return errors.New("nothing was reloaded")
	}
	per := float64(reloads) / (plan.Serve.PaceRun.Seconds() * float64(plan.Serve.PacePairs))
	if err := r.addPauses("p99 of a request during reloads", serverOurs, serverOurs+" without reloads", busy, quiet, plan.Seed); err != nil {
		return err
	}
	r.Notes = append(r.Notes, fmt.Sprintf("Reloads beside requests: %d pairs of runs of %v, %.0f reloads a second of a setting that reaches every connection; %d connections "+
		"send a request every %v, timed from when it was due.", plan.Serve.PacePairs, plan.Serve.PaceRun, per, plan.Serve.Conns, plan.Serve.Interval))
	return nil
}

// addIdle asks what a change costs that reaches many idle connections.
func (r *Report) addIdle(ctx context.Context, c *child, plan Plan) (err error) {
	idle, err := connect(ctx, c.Addresses[serverOurs], nil, plan.Serve.Idle, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, idle.close()) }()
	if err := idle.send(ctx, 1); err != nil { // so that they are idle and not new
		return err
	}
	senders, err := connect(ctx, c.Addresses[serverOurs], nil, plan.Serve.Conns, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, senders.close()) }()

	var took []float64
	changes := 0
	busy, quiet, err := pacedPairs(ctx, senders, plan.Serve, func(f func() error) error {
		done := make(chan error, 1)
		go func() { done <- f() }()
		timer := time.NewTimer(plan.Serve.PaceRun / 2)
		defer timer.Stop()
		select {
		case err := <-done:
			return err
		case <-timer.C:
		}
		changes++
		// Shorter each time, which is the expensive way.
		answer, err := c.call(command{Op: opIdle, Idle: time.Hour - time.Duration(changes)*time.Minute})
		took = append(took, milliseconds(answer.Took))
		return errors.Join(err, <-done)
	})
	if err != nil {
		return err
	}
	for _, nc := range idle.conns {
		if err := stillOpen(nc); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("a change of the idle timeout with %d idle connections", plan.Serve.Idle)
	r.Rows = append(
		r.Rows,
		Row{What: what + ", median", Ours: Figure{Name: serverOurs, Value: median(took), Unit: "ms"}, Target: fmt.Sprintf("< %d ms", maxChange), Met: new(median(took) < maxChange)},
		Row{What: what + ", longest", Ours: Figure{Name: serverOurs, Value: quantile(took, 1), Unit: "ms"}, Target: fmt.Sprintf("< %d ms", maxChange), Met: new(quantile(took, 1) < maxChange)},
	)
	if err := r.addPauses("p99 of a request with such a change", serverOurs, serverOurs+" without changes", busy, quiet, plan.Seed); err != nil {
		return err
	}
	r.Notes = append(r.Notes, fmt.Sprintf("Idle connections: %d changes, one in the middle of each run, from the call to its return, when the new deadline of every connection is set; no "+
		"connection was closed by them. The requests beside them are as above.", len(took)))
	return nil
}

// stillOpen reports a connection that the other side has closed.
func stillOpen(nc net.Conn) error {
	if err := nc.SetReadDeadline(time.Now().Add(time.Microsecond)); err != nil {
		return err
	}
	_, err := nc.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return nil
	}
	return fmt.Errorf("an idle connection is not open any more: %w", err)
}

// addPauses is the row of two series of p99.
func (r *Report) addPauses(what, ours, rival string, busy, quiet []float64, seed uint64) error {
	ratio, err := compare(busy, quiet, seed)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, Row{
		What: what, Ours: Figure{Name: ours, Value: median(busy), Unit: "ns"},
		Rival: &Figure{Name: rival, Value: median(quiet), Unit: "ns"}, Ratio: ratio,
		Target: "1 in the interval", Met: new(ratio.Low <= 1),
	})
	return nil
}

// pacedPairs runs the senders with and without what around does beside them, in
// pairs whose order changes, and returns the p99 of each run in ns.
func pacedPairs(ctx context.Context, senders *clients, plan ServePlan, around func(func() error) error) (busy, quiet []float64, err error) {
	run := func(series *[]float64) func() error {
		return func() error {
			h, err := senders.pace(ctx, plan.Interval, plan.PaceRun)
			if err != nil {
				return err
			}
			*series = append(*series, float64(h.ValueAtPercentile(99)))
			return nil
		}
	}
	for pair := range plan.PacePairs {
		for turn := range 2 {
			if (pair+turn)%2 == 0 {
				err = run(&quiet)()
			} else {
				err = around(run(&busy))
			}
			if err != nil {
				return nil, nil, err
			}
		}
	}
	return busy, quiet, nil
}
