package rivals

import (
	"context"
	"runtime"
	"time"
)

// measureReloads reloads with each library in turns and returns the times from
// the text to the effect in milliseconds, by library and round.
func measureReloads(ctx context.Context, libs []*library, rounds int) ([][]float64, error) {
	measured := make([][]float64, len(libs))
	for round := range rounds {
		for k := range libs {
			i := (round + k) % len(libs)
			runtime.GC() // nobody pays for what another one left
			took, err := libs[i].reload(ctx)
			if err != nil {
				return nil, err
			}
			measured[i] = append(measured[i], milliseconds(took))
		}
	}
	return measured, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
