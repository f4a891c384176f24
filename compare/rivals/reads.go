package rivals

import (
	"context"
	"testing"
	"time"
)

// reads is what reading the setting once costs in one library.
type reads struct {
	library *library
	ns      []float64 // a read, by round
	allocs  float64   // a read
}

// measureReads reads with each library in turns. A turn takes about the given
// time; the libraries take their turns in another order in each round.
func measureReads(ctx context.Context, libs []*library, rounds int, turn time.Duration) ([]reads, error) {
	measured := make([]reads, len(libs))
	counts := make([]int, len(libs))
	for i, l := range libs {
		measured[i] = reads{library: l, allocs: testing.AllocsPerRun(100, func() { l.read(1) })}
		for counts[i] = 64; timeReads(l, counts[i]) < turn/2; counts[i] *= 2 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	for round := range rounds {
		for k := range libs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			i := (round + k) % len(libs)
			took := timeReads(libs[i], counts[i])
			measured[i].ns = append(measured[i].ns, float64(took.Nanoseconds())/float64(counts[i]))
		}
	}
	return measured, nil
}

func timeReads(l *library, n int) time.Duration {
	began := time.Now()
	l.read(n)
	return time.Since(began)
}
