package server

import (
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds the requests a second and at once. Its settings change while it
// is used.
type limiter struct {
	rate    *rate.Limiter
	running atomic.Int64 // requests that count
	refused [limits]atomic.Uint64
}

// limit is one of the limits, for the metrics.
type limit int

const (
	limitBody limit = iota
	limitConcurrency
	limitRate
	limitConnections
	limits
)

func (l limit) String() string {
	return [...]string{"body_bytes", "concurrency", "rps", "connections"}[l]
}

// problem is the answer to what the limit keeps out.
func (l limit) problem() (status int, detail string) {
	switch l {
	case limitBody:
		return http.StatusRequestEntityTooLarge, "the body is larger than server.limit.body_bytes allows"
	case limitConcurrency:
		return http.StatusTooManyRequests, "the service works on as many requests as server.limit.concurrency allows"
	case limitRate:
		return http.StatusTooManyRequests, "there are more requests than server.limit.rps allows"
	case limitConnections, limits:
	}
	return http.StatusServiceUnavailable, "there are as many connections as server.limit.connections allows"
}

func newLimiter() *limiter { return &limiter{rate: rate.NewLimiter(rate.Inf, math.MaxInt)} }

// apply makes the settings count. Without a rate the burst is as large as can
// be, so that the first requests under a new one find as much as it allows.
func (l *limiter) apply(c Limit) {
	now, limit, burst := time.Now(), rate.Limit(c.RPS), c.Burst
	switch {
	case c.RPS <= 0:
		limit, burst = rate.Inf, math.MaxInt
	case burst <= 0:
		burst = max(1, int(math.Ceil(c.RPS)))
	}
	l.rate.SetBurstAt(now, burst)
	l.rate.SetLimitAt(now, limit)
}

// enter counts a request in. Where it may not come in, wait is after how long it
// is worth another try; otherwise leave must be called.
func (l *limiter) enter(c *Limit) (refusedBy limit, wait time.Duration, ok bool) {
	if !l.start(int64(c.Concurrency)) {
		return limitConcurrency, time.Second, false
	}
	if c.RPS <= 0 {
		return 0, 0, true
	}
	now := time.Now()
	if l.rate.AllowN(now, 1) {
		return 0, 0, true
	}
	l.leave()
	missing := (1 - l.rate.TokensAt(now)) / c.RPS
	return limitRate, time.Duration(min(missing, maxRetryAfter.Seconds()) * float64(time.Second)), false
}

// start takes a place among those that run at once; limit 0 is none.
func (l *limiter) start(limit int64) bool {
	if limit <= 0 {
		l.running.Add(1)
		return true
	}
	for {
		n := l.running.Load()
		if n >= limit {
			return false
		}
		if l.running.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (l *limiter) leave() { l.running.Add(-1) }

// maxRetryAfter is the longest wait that a client is told.
const maxRetryAfter = 24 * time.Hour

// retryAfter is the header's value (RFC 9110 section 10.2.3): whole seconds, so
// that who waits them is not too early.
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
}
