package rivals

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// addGoAway sends POSTs on HTTP/2 connections in the moment in which these have
// been idle for long enough to be closed, and counts those that fail.
func (r *Report) addGoAway(ctx context.Context, c *child, plan Plan) error {
	var sent, failed [2]int64
	names := []string{serverOursH2C, serverStockH2C}
	for turn := range plan.Serve.H2Turns {
		for i := range names {
			side := (turn + i) % 2
			s, f, err := postAtExpiry(ctx, c.Addresses[names[side]], plan)
			if err != nil {
				return err
			}
			sent[side] += s
			failed[side] += f
		}
	}
	if failed[1] == 0 {
		return fmt.Errorf("none of %d POSTs to net/http failed: they were not sent in the moment that counts", sent[1])
	}
	share := func(side int) float64 { return 100 * float64(failed[side]) / float64(sent[side]) }
	r.Rows = append(
		r.Rows,
		Row{
			What: fmt.Sprintf("POSTs that fail when an idle HTTP/2 connection ends, of %d", sent[0]),
			Ours: Figure{Name: serverOursH2C, Value: share(0), Unit: "%"}, Target: fmt.Sprintf("<= %.2f %%, a tenth of the next", share(1)/10),
			Met: new(share(0) <= share(1)/10),
		},
		Row{
			What: fmt.Sprintf("the same with the IdleTimeout of net/http, of %d", sent[1]),
			Ours: Figure{Name: serverStockH2C, Value: share(1), Unit: "%"},
		},
	)
	r.Notes = append(r.Notes, fmt.Sprintf("HTTP/2: %d connections without TLS, an idle timeout of %v, POSTs at that time after the answer before, give or take a millisecond, "+
		"with a body that the client cannot send twice. %d of ours failed, and %d of net/http's.", plan.Serve.H2Conns, h2Idle, failed[0], failed[1]))
	return nil
}

// once is a body that cannot be read again, so that the client does not try a
// second time by itself.
type once struct{ io.Reader }

func postAtExpiry(ctx context.Context, address string, plan Plan) (sent, failed int64, err error) {
	var s, f atomic.Int64
	var running sync.WaitGroup
	ends := time.Now().Add(plan.Serve.H2Turn)
	for i := range plan.Serve.H2Conns {
		running.Go(func() {
			random := rand.New(rand.NewPCG(plan.Seed, uint64(i))) //nolint:gosec // a pause needs no secrecy
			var protocols http.Protocols
			protocols.SetUnencryptedHTTP2(true)
			transport := &http.Transport{Protocols: &protocols}
			defer transport.CloseIdleConnections()
			timer := time.NewTimer(0)
			defer timer.Stop()
			<-timer.C
			for time.Now().Before(ends) {
				s.Add(1)
				if post(ctx, transport, address) != nil {
					f.Add(1)
				}
				timer.Reset(h2Idle + time.Duration(random.Int64N(2_000_001)-1_000_000))
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	running.Wait()
	return s.Load(), f.Load(), ctx.Err()
}

func post(ctx context.Context, transport *http.Transport, address string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/", once{strings.NewReader("body")})
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if closeErr := res.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && res.StatusCode != http.StatusOK {
		err = errAnswer
	}
	return err
}
