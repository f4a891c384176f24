package load

import (
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what the clients have seen.
type Result struct {
	Fresh Group // a connection for each request
	Busy  Group // request after request on a connection
	Idle  Group // a think time before each request
}

// Group is one kind of client.
type Group struct {
	Clients  int
	Requests uint64 // sent, or not sent because there was no connection
	Answered uint64 // with 200, by the right answer
	// Kept is how many clients, when they ended or until now, have needed one
	// connection only. For Fresh it is 0, as are the next two.
	Kept int
	// Told is how many connections ended because an answer said so; for HTTP/2 a
	// GOAWAY that was there when the answer came.
	Told uint64
	// Ended is how many ended between two requests without an answer that said so.
	Ended    uint64
	Failures map[Kind]Failure

	latency *hdrhistogram.Histogram // µs
}

// Failure is the failures of one kind.
type Failure struct {
	Count uint64
	Texts []string // of the first few
}

// maxTexts is how many texts of a kind are kept.
const maxTexts = 3

// longest is the most that a latency is recorded with.
const longest = time.Minute

func newGroup(clients int) Group {
	return Group{Clients: clients, Failures: map[Kind]Failure{}, latency: hdrhistogram.New(1, longest.Microseconds(), 3)}
}

// Failed counts the failures of all kinds.
func (g Group) Failed() uint64 {
	n := uint64(0)
	for _, f := range g.Failures {
		n += f.Count
	}
	return n
}

// Latency is the time that at least the share q of the answers did not exceed; 0
// without an answer. That of a fresh connection includes the connecting.
func (g Group) Latency(q float64) time.Duration {
	if g.latency == nil {
		return 0
	}
	return time.Duration(g.latency.ValueAtQuantile(q*100)) * time.Microsecond
}

// add adds what another group of the same kind has seen.
func (g *Group) add(other Group) {
	if other.latency == nil {
		return
	}
	if g.latency == nil {
		*g = newGroup(0)
	}
	g.Clients += other.Clients
	g.Requests += other.Requests
	g.Answered += other.Answered
	g.Kept += other.Kept
	g.Told += other.Told
	g.Ended += other.Ended
	for kind, f := range other.Failures {
		sum := g.Failures[kind]
		sum.Count += f.Count
		sum.Texts = append(slices.Clone(sum.Texts), f.Texts...)
		sum.Texts = sum.Texts[:min(len(sum.Texts), maxTexts)]
		g.Failures[kind] = sum
	}
	g.latency.Merge(other.latency)
}

func (g Group) clone() Group {
	g.Failures = maps.Clone(g.Failures)
	latency := hdrhistogram.New(1, longest.Microseconds(), 3)
	latency.Merge(g.latency)
	g.latency = latency
	return g
}

// Add adds what another load has seen. The zero value is a result of none.
func (r *Result) Add(other Result) {
	r.Fresh.add(other.Fresh)
	r.Busy.add(other.Busy)
	r.Idle.add(other.Idle)
}

// Requests is the number of all groups.
func (r Result) Requests() uint64 { return r.Fresh.Requests + r.Busy.Requests + r.Idle.Requests }

// Failed is the number of all groups.
func (r Result) Failed() uint64 { return r.Fresh.Failed() + r.Busy.Failed() + r.Idle.Failed() }

// Of is the number of failures of a kind in all groups.
func (r Result) Of(kind Kind) uint64 {
	return r.Fresh.Failures[kind].Count + r.Busy.Failures[kind].Count + r.Idle.Failures[kind].Count
}

// Executions is what a record says, beside what the clients have seen.
type Executions struct {
	Executed   uint64 // requests, however often
	Twice      uint64 // of these, executed more than once
	Unanswered uint64 // of these, without the answer having come
	Missing    uint64 // answered without having been executed
	Unknown    uint64 // executed, with an id that nobody has sent
}

// Add adds those of another load.
func (e *Executions) Add(other Executions) {
	e.Executed += other.Executed
	e.Twice += other.Twice
	e.Unanswered += other.Unanswered
	e.Missing += other.Missing
	e.Unknown += other.Unknown
}
