package server

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func rps(n float64, burst int) func(*Config) {
	return func(c *Config) { c.Limit.RPS, c.Limit.Burst = n, burst }
}

// rated asks on one connection under virtual time.
type rated struct {
	bubble
	c *raw
}

func (r rated) ask() answer {
	r.t.Helper()
	r.c.send(r.t, getRoot)
	return r.c.receive(r.t)
}

// allowed asks n times and returns how many were let in.
func (r rated) allowed(n int) int {
	r.t.Helper()
	in := 0
	for range n {
		switch a := r.ask(); a.StatusCode {
		case 200:
			in++
		case 429:
			wantProblem(r.t, a, 429, "server.limit.rps")
		default:
			r.t.Errorf("answer %s", a.Status)
		}
	}
	return in
}

// underRate runs f under virtual time, with the idle timeout out of the way.
func underRate(t *testing.T, edit func(*Config), f func(rated)) {
	t.Helper()
	idle := func(c *Config) { edit(c); c.Timeout.Idle = 0 }
	inBubble(t, Options{Handler: handler(hello)}, idle, maxLinger, nil, func(b bubble) {
		c := b.dial()
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		f(rated{b, c})
	})
}

func TestLimitRate(t *testing.T) {
	for _, tt := range []struct {
		rps     float64
		burst   int
		atOnce  int           // let in at the start, and after a pause
		refills time.Duration // one more
		retry   []int         // Retry-After of the one refused after each wait of a second
	}{
		{rps: 1, burst: 0, atOnce: 1, refills: time.Second, retry: []int{1}},
		{rps: 10, burst: 0, atOnce: 10, refills: 100 * time.Millisecond, retry: []int{1}},
		{rps: 10, burst: 3, atOnce: 3, refills: 100 * time.Millisecond, retry: []int{1}},
		{rps: 2.5, burst: 0, atOnce: 3, refills: 400 * time.Millisecond, retry: []int{1}},
		{rps: 0.25, burst: 0, atOnce: 1, refills: 4 * time.Second, retry: []int{4, 3, 2, 1}},
		{rps: 0.1, burst: 5, atOnce: 5, refills: 10 * time.Second, retry: []int{10, 9, 8, 7, 6}},
		{rps: 1e-9, burst: 1, atOnce: 1, refills: 0, retry: []int{86400}},
	} {
		t.Run(fmt.Sprintf("%g with burst %d", tt.rps, tt.burst), func(t *testing.T) {
			underRate(t, rps(tt.rps, tt.burst), func(r rated) {
				if n := r.allowed(tt.atOnce + 5); n != tt.atOnce {
					t.Errorf("%d at once, want %d", n, tt.atOnce)
				}
				for i, want := range tt.retry {
					a := r.ask()
					if got := a.Header.Get("Retry-After"); a.StatusCode != 429 || got != strconv.Itoa(want) {
						t.Errorf("after %d s: %s, Retry-After %s, want %d", i, a.Status, got, want)
					}
					if i < len(tt.retry)-1 {
						time.Sleep(time.Second)
					}
				}
				if tt.refills == 0 {
					return
				}
				// Fill it up: no more than the burst.
				time.Sleep(time.Duration(tt.atOnce+100) * tt.refills)
				if n := r.allowed(tt.atOnce + 5); n != tt.atOnce {
					t.Errorf("%d at once after a pause, want %d", n, tt.atOnce)
				}
				time.Sleep(tt.refills + time.Microsecond)
				if n := r.allowed(3); n != 1 {
					t.Errorf("%d after %s, want 1", n, tt.refills)
				}
			})
		})
	}
}

// Who waits what Retry-After says is let in.
func TestLimitRateRetryAfterHolds(t *testing.T) {
	for _, n := range []float64{0.03, 0.3, 0.7, 1, 3, 7} {
		underRate(t, rps(n, 1), func(r rated) {
			r.ask()
			for range 20 {
				a := r.ask()
				wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
				if a.StatusCode != 429 || err != nil {
					t.Fatalf("answer %s, %v", a.Status, err)
				}
				time.Sleep(time.Duration(wait) * time.Second)
				if a := r.ask(); a.StatusCode != 200 {
					t.Errorf("%g a second: after %d s: %s", n, wait, a.Status)
				}
			}
		})
	}
}

func TestLimitRateIsLive(t *testing.T) {
	underRate(t, rps(1, 2), func(r rated) {
		if n := r.allowed(5); n != 2 {
			t.Errorf("%d let in, want 2", n)
		}
		r.s.change(rps(0, 0))
		if n := r.allowed(20); n != 20 {
			t.Errorf("without a limit: %d of 20", n)
		}
		time.Sleep(time.Second)
		r.s.change(rps(1, 4))
		if n := r.allowed(9); n != 4 {
			t.Errorf("when it is back: %d, want 4", n)
		}
		r.s.change(rps(100, 10)) // empty now, but it fills faster
		time.Sleep(50 * time.Millisecond)
		if n := r.allowed(20); n != 5 {
			t.Errorf("50 ms after it was raised: %d, want 5", n)
		}
		time.Sleep(time.Minute)
		r.s.change(rps(1, 3)) // what had been saved is cut
		if n := r.allowed(9); n != 3 {
			t.Errorf("after it was lowered: %d, want 3", n)
		}
		for range 100 {
			r.s.change(func(c *Config) { c.CORS.Methods = append(c.CORS.Methods, http.MethodPut) })
		}
		if n := r.allowed(3); n != 0 {
			t.Errorf("a change of something else has let in %d", n)
		}
	})
}

// Twice as fast as the rate: half of it is let in.
func TestLimitRateOverTime(t *testing.T) {
	underRate(t, rps(50, 1), func(r rated) {
		in := 0
		for range 1000 {
			in += r.allowed(1)
			time.Sleep(10 * time.Millisecond)
		}
		if in != 500 {
			t.Errorf("%d of 1000 in 10 s at 50 a second", in)
		}
	})
}

func TestLimitRateAndConcurrencyTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		c := Limit{Concurrency: 1, RPS: 1, Burst: 1}
		l.apply(c)
		if _, _, ok := l.enter(&c); !ok {
			t.Fatal("the first is refused")
		}
		// One that concurrency refuses does not spend of the rate, and the
		// other way round.
		time.Sleep(time.Second)
		if by, _, ok := l.enter(&c); ok || by != limitConcurrency {
			t.Errorf("the second: %v by %v", ok, by)
		}
		l.leave()
		if _, _, ok := l.enter(&c); !ok {
			t.Error("the rate was spent")
		}
		l.leave()
		if by, _, ok := l.enter(&c); ok || by != limitRate {
			t.Errorf("the fourth: %v by %v", ok, by)
		}
		if n := l.running.Load(); n != 0 {
			t.Errorf("%d places are taken", n)
		}
	})
}
