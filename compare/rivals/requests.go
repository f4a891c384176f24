package rivals

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// ServePlan says how much of the servers is measured.
type ServePlan struct {
	Conns    int // that send at once
	Pairs    int // of turns, ours and the rival's, in which each request kind is sent
	Requests int // of a turn, on each connection

	PacePairs int           // of runs with and without reloads, or changes
	PaceRun   time.Duration // the length of one such run
	Interval  time.Duration // between two requests of a connection in them

	Idle int // connections that do nothing while a timeout changes

	H2Conns int           // that send a POST when they are about to be closed
	H2Turns int           // of ours and of net/http
	H2Turn  time.Duration // the length of a turn
}

// targetCPU is what a request may cost, against the rival.
const targetCPU = 1.02

// requestKind is one row: what is sent to which pair of servers.
type requestKind struct {
	what        string
	ours, rival string
	body        int
	tls         bool
	target      bool
}

func requestKinds() []requestKind {
	return []requestKind{
		{"CPU of a request: GET", serverOurs, serverGin, 0, false, true},
		{"CPU of a request: POST of 1 KiB", serverOurs, serverGin, 1 << 10, false, true},
		{"CPU of a request: GET over TLS", serverOursTLS, serverGinTLS, 0, true, true},
		{"the same GET, ours with metrics", serverMeasured, serverGin, 0, false, false},
	}
}

// cost is what one turn cost a server.
type cost struct{ cpu, allocs float64 } // a request; in ns

func (r *Report) addRequests(ctx context.Context, c *child, plan Plan) error {
	for _, kind := range requestKinds() {
		ours, rival, err := measureRequests(ctx, c, kind, plan.Serve)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.what, err)
		}
		cpu := func(c cost) float64 { return c.cpu }
		ratio, err := compare(pickCosts(ours, cpu), pickCosts(rival, cpu), plan.Seed)
		if err != nil {
			return err
		}
		figure := func(name string, costs []cost) Figure {
			// A turn's allocations hold what is made once in a while, so their
			// number is rounded.
			allocs := float64(int(median(pickCosts(costs, func(c cost) float64 { return c.allocs })) + 0.5))
			return Figure{Name: name, Value: median(pickCosts(costs, cpu)), Unit: "ns", Allocs: &allocs}
		}
		theirs := figure(kind.rival, rival)
		row := Row{What: kind.what, Ours: figure(kind.ours, ours), Rival: &theirs, Ratio: ratio}
		if kind.target {
			row.Target = fmt.Sprintf("<= %v, no more allocs", targetCPU)
			row.Met = new(ratio.Median <= targetCPU && *row.Ours.Allocs <= *theirs.Allocs)
		}
		r.Rows = append(r.Rows, row)
	}
	r.Notes = append(r.Notes, fmt.Sprintf("Requests: %d turns of each server, in pairs, of %d requests on each of %d keep-alive connections; processor time, "+
		"that in the kernel included, and allocations of the process that serves, clients being another one. Both sides serve the same gin "+
		"routes with the same timeouts. The rival's are the fields of http.Server and context.WithTimeout in a gin middleware; ours are live, and "+
		"each request is pinned to its revision.", plan.Serve.Pairs, plan.Serve.Requests, plan.Serve.Conns))
	return nil
}

func pickCosts(costs []cost, of func(cost) float64) []float64 {
	out := make([]float64, len(costs))
	for i, c := range costs {
		out[i] = of(c)
	}
	return out
}

// measureRequests takes turns; which side is first changes with each pair.
func measureRequests(ctx context.Context, c *child, kind requestKind, plan ServePlan) (ours, rival []cost, err error) {
	var roots []byte
	if kind.tls {
		roots = c.Roots
	}
	sides := [2]*clients{}
	for i, name := range []string{kind.ours, kind.rival} {
		if sides[i], err = connect(ctx, c.Addresses[name], roots, plan.Conns, kind.body); err != nil {
			return nil, nil, err
		}
		defer func() { err = errors.Join(err, sides[i].close()) }()
		if err := sides[i].send(ctx, plan.Requests); err != nil { // warm
			return nil, nil, err
		}
	}
	costs := [2][]cost{}
	for pair := range plan.Pairs {
		for turn := range 2 {
			side := (pair + turn) % 2
			spent, err := c.turn(ctx, sides[side], plan)
			if err != nil {
				return nil, nil, err
			}
			costs[side] = append(costs[side], spent)
		}
	}
	return costs[0], costs[1], nil
}

// turn sends a turn's requests and returns what one of them cost the server.
func (c *child) turn(ctx context.Context, to *clients, plan ServePlan) (cost, error) {
	runtime.GC() // ours, so that it is not in the way of theirs
	before, err := c.call(command{Op: opUsage})
	if err != nil {
		return cost{}, err
	}
	if err := to.send(ctx, plan.Requests); err != nil {
		return cost{}, err
	}
	after, err := c.call(command{Op: opUsage})
	if err != nil {
		return cost{}, err
	}
	n := float64(plan.Requests * plan.Conns)
	return cost{float64(after.CPU-before.CPU) / n, float64(after.Mallocs-before.Mallocs) / n}, nil
}
