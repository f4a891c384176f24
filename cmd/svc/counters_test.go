package main

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/server/keeper"
)

// generationCounters is a generation that counts something.
type generationCounters struct {
	*counters
	number  int
	counter prometheus.Counter
}

func newGenerationCounters(number int) *generationCounters {
	registry := prometheus.NewRegistry()
	g := &generationCounters{newCounters(registry), number, prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total"})}
	registry.MustRegister(g.counter)
	return g
}

func (g *generationCounters) tells(t *testing.T, other *generationCounters, all, last bool) {
	t.Helper()
	data, err := g.tell(g.number, all, last)
	if err == nil {
		err = other.hear(keeper.Relayed{Generation: g.number, Name: countersState, Data: data})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (g *generationCounters) want(t *testing.T, when string, n float64) {
	t.Helper()
	gathered, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range gathered {
		if f.GetName() == "things_total" && f.GetMetric()[0].GetCounter().GetValue() == n {
			return
		}
	}
	t.Errorf("%s: %v, want %v", when, gathered, n)
}

// TestLateCounts: a generation hears the last word of the one before when it has
// handed over itself already. Nothing is lost or counted twice.
func TestLateCounts(t *testing.T) {
	first, second, third := newGenerationCounters(1), newGenerationCounters(2), newGenerationCounters(3)
	first.counter.Add(1)
	first.tells(t, second, true, false)
	second.counter.Add(10)
	second.tells(t, third, true, false)
	third.want(t, "after the handover", 11)

	first.counter.Add(100)
	first.tells(t, second, false, true) // it was on its way when the third took over
	second.counter.Add(1000)
	second.tells(t, third, second.unsaid(), false)
	third.want(t, "after the word that came late", 1111)
	second.tells(t, third, second.unsaid(), false)
	third.want(t, "after a word without news", 1111)
	second.tells(t, third, second.unsaid(), true)
	third.want(t, "after the last word", 1111)

	fourth := newGenerationCounters(4)
	third.tells(t, fourth, true, false)
	fourth.want(t, "after the next handover", 1111)

	// The successor dies: what it was told goes to the one after it.
	third.resume()
	third.want(t, "after the successor's end", 1111)
	fifth := newGenerationCounters(5)
	third.tells(t, fifth, true, true)
	fifth.want(t, "with another successor", 1111)
}
