package rivals

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is a median and the bounds that hold it with 95 % confidence.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// resamples is enough that the bounds hardly move from one seed to another.
const resamples = 10_000

// median returns the middle of the samples, or the mean of the middle two; NaN
// without samples.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	return sortedMedian(slices.Sorted(slices.Values(samples)))
}

func sortedMedian(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile returns the smallest sample that at least the share q of all samples
// does not exceed (the nearest rank); NaN without samples.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// pairwise returns a[i] / b[i]: what was measured in the same round is compared
// with each other.
func pairwise(a, b []float64) ([]float64, error) {
	if len(a) != len(b) || len(a) == 0 {
		return nil, errors.New("pair samples: the series differ in length or are empty")
	}
	out := make([]float64, len(a))
	for i := range a {
		if !(a[i] > 0) || !(b[i] > 0) {
			return nil, errors.New("pair samples: a sample is not above zero")
		}
		out[i] = a[i] / b[i]
	}
	return out, nil
}

// bootstrap returns the median of the samples with its 95 % percentile
// interval. Equal seeds give equal bounds.
func bootstrap(samples []float64, seed uint64) Interval {
	if len(samples) == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // statistics need no secrecy, and the same numbers each time
	medians := make([]float64, resamples)
	drawn := make([]float64, len(samples))
	for i := range medians {
		for j := range drawn {
			drawn[j] = samples[random.IntN(len(samples))]
		}
		slices.Sort(drawn)
		medians[i] = sortedMedian(drawn)
	}
	return Interval{Median: median(samples), Low: quantile(medians, 0.025), High: quantile(medians, 0.975)}
}

// compare is the ratio a / b of two series that were measured in the same rounds.
func compare(a, b []float64, seed uint64) (*Interval, error) {
	ratios, err := pairwise(a, b)
	if err != nil {
		return nil, err
	}
	interval := bootstrap(ratios, seed)
	return &interval, nil
}
