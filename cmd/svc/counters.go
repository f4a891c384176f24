package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/hotsvc/svc/server/keeper"
)

// counters are this generation's metrics together with the counts of the
// generations before it, which go on counting while they drain: what is counted
// never falls because of a restart. Gauges are this generation's alone.
//
// A generation tells its successor, when that has taken over, its own counts and
// all that it knows of others, and from then on its own, until its last word.
// What it hears of others after that, because they spoke while the successor was
// taking over, it tells on.
type counters struct {
	own prometheus.Gatherer

	mu     sync.Mutex
	known  map[int]families // by generation; 0 are those that have ended
	ended  map[int]bool     // of these nothing more is counted
	left   families         // of ended ones, told on already
	recent []int            // have ended since something was told on
	news   bool             // something was heard since then
	heard  chan struct{}    // closed when a generation before has told all it knows
	listen sync.Once
}

// families are metrics by name.
type families map[string]*dto.MetricFamily

// ofEnded is the place of the counts of generations that have ended.
const ofEnded = 0

// maxKnown bounds the generations that are told apart: a few more than may
// drain at once.
const maxKnown = 64

// countersState is the name of the state that generations send each other.
const countersState = "counters"

func newCounters(own prometheus.Gatherer) *counters {
	return &counters{own: own, known: map[int]families{}, ended: map[int]bool{}, heard: make(chan struct{})}
}

// told is what one generation sends.
type told struct {
	// All says that what it knows of others is in it: the first word of one that
	// has handed over, and what it has heard since. Last says that nothing follows.
	All  bool `json:"all,omitempty"`
	Last bool `json:"last,omitempty"`
	// Ended are generations whose last counts are among those of the ended ones,
	// in this word or in one before.
	Ended []int `json:"ended,omitempty"`
	// Counts are delimited protocol buffers, by generation.
	Counts map[int][]byte `json:"counts"`
}

// tell encodes the own counts of a generation; all adds what it knows of others.
func (c *counters) tell(generation int, all, last bool) ([]byte, error) {
	own, err := c.gatherOwn()
	if err != nil {
		return nil, err
	}
	t := told{All: all, Last: last, Counts: map[int][]byte{}}
	if t.Counts[generation], err = own.encode(); err != nil {
		return nil, err
	}
	if all {
		c.mu.Lock()
		known := maps.Clone(c.known)
		c.left = c.left.plus(c.known[ofEnded])
		delete(c.known, ofEnded)
		t.Ended, c.recent, c.news = c.recent, nil, false
		c.mu.Unlock()
		for g, f := range known {
			if t.Counts[g], err = f.encode(); err != nil {
				return nil, err
			}
		}
	}
	return json.Marshal(t)
}

// unsaid reports whether something was heard that was not told on.
func (c *counters) unsaid() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news
}

// resume takes back what was told to a successor that has died.
func (c *counters) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[ofEnded], c.left = c.known[ofEnded].plus(c.left), nil
}

// hear takes in what another generation has sent.
func (c *counters) hear(r keeper.Relayed) error {
	var t told
	if err := json.Unmarshal(r.Data, &t); err != nil {
		return fmt.Errorf("counts of generation %d: %w", r.Generation, err)
	}
	decoded := map[int]families{}
	for g, data := range t.Counts {
		f, err := decodeFamilies(data)
		if err != nil {
			return fmt.Errorf("counts of generation %d: %w", r.Generation, err)
		}
		decoded[g] = f
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.news = true
	for _, g := range t.Ended {
		delete(c.known, g)
		c.end(g)
	}
	for g, f := range decoded {
		switch {
		case g == ofEnded && t.All: // nobody else has it: it is handed from one to the next
			c.known[ofEnded] = c.known[ofEnded].plus(f)
		case g == ofEnded || c.ended[g]:
		case t.All && g != r.Generation && c.known[g] != nil: // it has told itself, and later
		default:
			c.known[g] = f
		}
	}
	if t.Last {
		c.fold(r.Generation)
	}
	for len(c.known) > maxKnown {
		// Whichever that is, it has not said its last word, and never will.
		numbers := slices.Sorted(maps.Keys(c.known))
		c.fold(numbers[slices.IndexFunc(numbers, func(g int) bool { return g != ofEnded })])
	}
	if t.All {
		c.listen.Do(func() { close(c.heard) })
	}
	return nil
}

// fold adds the counts of a generation to those of the ended ones.
func (c *counters) fold(generation int) {
	c.known[ofEnded] = c.known[ofEnded].plus(c.known[generation])
	delete(c.known, generation)
	c.end(generation)
}

// end notes that nothing more is counted of a generation.
func (c *counters) end(generation int) {
	c.recent = append(c.recent, generation)
	if len(c.ended) >= maxKnown {
		delete(c.ended, slices.Min(slices.Collect(maps.Keys(c.ended))))
	}
	c.ended[generation] = true
}

// afterWord gathers when the generation before has told what it knows: whoever
// scrapes must not find less than before. It does not wait longer than late
// says: that generation may be dead.
type afterWord struct {
	counters *counters
	late     <-chan struct{}
}

// Gather is that of a prometheus.Gatherer.
func (a afterWord) Gather() ([]*dto.MetricFamily, error) {
	select {
	case <-a.counters.heard:
	case <-a.late:
	}
	return a.counters.Gather()
}

// Gather is that of a prometheus.Gatherer.
func (c *counters) Gather() ([]*dto.MetricFamily, error) {
	gathered, err := c.own.Gather()
	sum := families{}
	for _, f := range gathered {
		sum[f.GetName()] = f
	}
	c.mu.Lock()
	for _, f := range c.known {
		sum = sum.plus(f)
	}
	sum = sum.plus(c.left)
	c.mu.Unlock()
	list := make([]*dto.MetricFamily, 0, len(sum))
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		list = append(list, sum[name])
	}
	return list, err
}

// gatherOwn is what this generation has counted.
func (c *counters) gatherOwn() (families, error) {
	gathered, err := c.own.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	own := families{}
	for _, f := range gathered {
		if f.GetType() == dto.MetricType_COUNTER || f.GetType() == dto.MetricType_HISTOGRAM {
			own[f.GetName()] = f
		}
	}
	return own, nil
}

func (f families) encode() ([]byte, error) {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if _, err := protodelim.MarshalTo(&b, f[name]); err != nil {
			return nil, fmt.Errorf("encode counts: %w", err)
		}
	}
	return b.Bytes(), nil
}

func decodeFamilies(data []byte) (families, error) {
	f := families{}
	for r := bytes.NewReader(data); r.Len() > 0; {
		family := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(r, family); err != nil {
			return nil, fmt.Errorf("decode counts: %w", err)
		}
		f[family.GetName()] = family
	}
	return f, nil
}

// plus is the sum of two, which stay as they are.
func (f families) plus(other families) families {
	sum := families{}
	maps.Copy(sum, f)
	for name, b := range other {
		a := sum[name]
		switch {
		case a == nil:
			sum[name] = b
		case a.GetType() == b.GetType(): // otherwise another version has another meaning for the name
			sum[name] = addFamily(a, b)
		}
	}
	return sum
}

func addFamily(a, b *dto.MetricFamily) *dto.MetricFamily {
	sum, _ := proto.Clone(a).(*dto.MetricFamily)
	at := map[string]int{}
	for i, m := range sum.GetMetric() {
		at[labelsOf(m)] = i
	}
	for _, m := range b.GetMetric() {
		i, there := at[labelsOf(m)]
		if !there {
			sum.Metric = append(sum.Metric, m)
			continue
		}
		addMetric(sum.Metric[i], m)
	}
	return sum
}

func labelsOf(m *dto.Metric) string {
	pairs := make([]string, len(m.GetLabel()))
	for i, l := range m.GetLabel() {
		pairs[i] = l.GetName() + "=" + l.GetValue()
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "\x00")
}

// addMetric adds b to a. Buckets that only one of them has are a's: another
// version counts in others.
func addMetric(a, b *dto.Metric) {
	if a.Counter != nil && b.Counter != nil {
		a.Counter.Value = new(a.Counter.GetValue() + b.Counter.GetValue())
	}
	if a.Histogram == nil || b.Histogram == nil {
		return
	}
	a.Histogram.SampleCount = new(a.Histogram.GetSampleCount() + b.Histogram.GetSampleCount())
	a.Histogram.SampleSum = new(a.Histogram.GetSampleSum() + b.Histogram.GetSampleSum())
	for _, bucket := range a.Histogram.GetBucket() {
		for _, other := range b.Histogram.GetBucket() {
			if bucket.GetUpperBound() == other.GetUpperBound() {
				bucket.CumulativeCount = new(bucket.GetCumulativeCount() + other.GetCumulativeCount())
			}
		}
	}
}

// keptRegisterer is a registry in which metrics stay after their owner has ended:
// the last counts are told then.
type keptRegisterer struct{ prometheus.Registerer }

// Unregister does not.
func (keptRegisterer) Unregister(prometheus.Collector) bool { return true }
