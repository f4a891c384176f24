package rivals

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    float64
	}{
		{[]float64{7}, 7},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		before := append([]float64(nil), c.samples...)
		if got := median(c.samples); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.samples, got, c.want)
		}
		if diff := cmp.Diff(before, c.samples); diff != "" {
			t.Errorf("median changed its argument: %s", diff)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestQuantileIsTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i) // 100 down to 1
	}
	for _, c := range []struct {
		samples []float64
		q, want float64
	}{
		{hundred, 0, 1},
		{hundred, 0.01, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.995, 100},
		{hundred, 1, 100},
		{[]float64{3}, 0.99, 3},
	} {
		if got := quantile(c.samples, c.q); got != c.want {
			t.Errorf("quantile(%v) of %d samples = %v, want %v", c.q, len(c.samples), got, c.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v, want NaN", got)
	}
}

func TestPairwise(t *testing.T) {
	got, err := pairwise([]float64{1, 9, 4}, []float64{2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{0.5, 3, 1}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range [][2][]float64{
		{nil, nil},
		{{1}, {1, 2}},
		{{1}, {0}},
		{{0}, {1}},
		{{-1}, {1}},
		{{math.NaN()}, {1}},
		{{1}, {math.NaN()}},
	} {
		if got, err := pairwise(bad[0], bad[1]); err == nil {
			t.Errorf("pairwise(%v, %v) = %v, want an error", bad[0], bad[1], got)
		}
	}
}

// What all rounds share cancels out in pairs, however large it is.
func TestCompareIgnoresTheMachinesMood(t *testing.T) {
	a, b := []float64{}, []float64{}
	for _, mood := range []float64{1, 50, 3, 700, 2} {
		a, b = append(a, 10*mood), append(b, 40*mood)
	}
	got, err := compare(a, b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Interval{0.25, 0.25, 0.25}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := compare(a, b[1:], 1); err == nil {
		t.Error("compare of unpaired series gave no error")
	}
}

func TestBootstrapIsRepeatable(t *testing.T) {
	samples := draw(30, 1)
	first := bootstrap(samples, 5)
	if diff := cmp.Diff(first, bootstrap(samples, 5)); diff != "" {
		t.Errorf("the same seed gave other bounds: %s", diff)
	}
	if first.Median != median(samples) || !(first.Low < first.Median) || !(first.Median < first.High) {
		t.Errorf("%+v does not lie around the median %v", first, median(samples))
	}
	if got := bootstrap(nil, 5); !math.IsNaN(got.Median) || !math.IsNaN(got.Low) || !math.IsNaN(got.High) {
		t.Errorf("bootstrap of nothing = %+v, want NaN", got)
	}
}

// Of many sets of samples, about 95 % of the intervals hold the true median.
func TestBootstrapCovers(t *testing.T) {
	const sets = 60
	hits := 0
	for seed := range uint64(sets) {
		i := bootstrap(draw(31, seed), seed)
		if i.Low <= 10 && 10 <= i.High {
			hits++
		}
	}
	if hits < sets*88/100 || hits == sets {
		t.Errorf("%d of %d intervals hold the true median, want about 95 %%", hits, sets)
	}
}

// draw returns samples of a normal distribution around 10.
func draw(n int, seed uint64) []float64 {
	random := rand.New(rand.NewPCG(seed, 99))
	out := make([]float64, n)
	for i := range out {
		out[i] = 10 + random.NormFloat64()
	}
	return out
}
