package reload

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hotsvc/svc/configsrc"
)

func TestReloadOfABrokenSourceLeavesTheRefusalStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.start(t)
		r.source.fail(configsrc.ErrInvalid, "broken")
		synctest.Wait()
		for range 3 {
			want(t, r.reread(t), Refused)
		}
		if last := r.Status().Last; last.Outcome != Refused || len(r.History()) != 2 {
			t.Errorf("last %+v, %d entries", last, len(r.History()))
		}
		if n := testutil.ToFloat64(r.metrics.successful); n != 0 {
			t.Errorf("svc_config_last_reload_successful = %v while the source does not parse", n)
		}
	})
}

func TestStormOfRequestsOfASourceInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pairYAML(1), nil)
		r.source.delay = 100 * time.Millisecond
		r.start(t)
		synctest.Wait()
		r.source.fail(configsrc.ErrNotFound, "gone")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var answered atomic.Int64
		var asking sync.WaitGroup
		for range 600 {
			asking.Go(func() {
				if e, err := r.Reload(ctx); err == nil && e.Outcome == Failed {
					answered.Add(1)
				}
			})
			time.Sleep(50 * time.Millisecond)
		}
		n := answered.Load() // while requests keep coming
		asking.Wait()
		if n < 500 {
			t.Errorf("%d of 600 requests were answered while they kept coming for 30 s", n)
		}
		if !r.Status().Sources[0].Stale {
			t.Error("the source is not stale")
		}
	})
}
