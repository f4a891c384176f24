package rivals

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// unit is how many reads are timed together: one alone is shorter than
	// looking at the clock.
	unit = 100
	// longest is the most a unit is recorded with.
	longest = 10 * time.Second
)

// readersRun is what the readers saw in one run.
type readersRun struct {
	p99, max float64 // of a unit, in ns
	reloads  int
}

// measureReaders runs the readers pairs times: in each round ours without
// reloads, ours with, then each rival with. The results are by round.
func measureReaders(ctx context.Context, libs libraries, pairs int, length time.Duration) (quiet []readersRun, busy [][]readersRun, err error) {
	all := libs.all()
	busy = make([][]readersRun, len(all))
	for range pairs {
		r, err := runReaders(ctx, libs.ours, length, false)
		if err != nil {
			return nil, nil, err
		}
		quiet = append(quiet, r)
		for i, l := range all {
			if r, err = runReaders(ctx, l, length, true); err != nil {
				return nil, nil, err
			}
			busy[i] = append(busy[i], r)
		}
	}
	return quiet, busy, nil
}

// runReaders lets readers read as fast as they can for a time and, with
// reloading, reloads one after the other meanwhile, at least once. It leaves a
// processor to the reloads where there are several: what is asked is whether a
// reload holds readers up, not how processors are shared.
func runReaders(ctx context.Context, l *library, length time.Duration, reloading bool) (readersRun, error) {
	runtime.GC()
	var stop atomic.Bool
	var running sync.WaitGroup
	histograms := make([]*hdrhistogram.Histogram, max(1, runtime.GOMAXPROCS(0)-1))
	failures := make([]error, len(histograms))
	for i := range histograms {
		histograms[i] = hdrhistogram.New(1, longest.Nanoseconds(), 3)
		running.Go(func() { failures[i] = readUnits(l, histograms[i], &stop) })
	}
	reloads, err := occupy(ctx, l, length, reloading)
	stop.Store(true)
	running.Wait()
	if err != nil {
		return readersRun{}, err
	}
	for i, h := range histograms {
		if failures[i] != nil {
			return readersRun{}, fmt.Errorf("record reads of %s: %w", l.name, failures[i])
		}
		if i > 0 {
			histograms[0].Merge(h)
		}
	}
	h := histograms[0]
	return readersRun{p99: float64(h.ValueAtPercentile(99)), max: float64(h.Max()), reloads: reloads}, nil
}

// occupy lets the time pass, with reloads or without.
func occupy(ctx context.Context, l *library, length time.Duration, reloading bool) (reloads int, err error) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	if !reloading {
		select {
		case <-timer.C:
			return 0, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	for {
		if _, err := l.reload(ctx); err != nil {
			return reloads, err
		}
		reloads++
		select {
		case <-timer.C:
			return reloads, nil
		default:
		}
	}
}

// readUnits reads until it is told to stop, at least one unit.
func readUnits(l *library, h *hdrhistogram.Histogram, stop *atomic.Bool) error {
	for {
		took := timeReads(l, unit)
		if err := h.RecordValue(min(max(took, 1), longest).Nanoseconds()); err != nil {
			return err
		}
		if stop.Load() {
			return nil
		}
	}
}
