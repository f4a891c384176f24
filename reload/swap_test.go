package reload

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSubscribersFollowTheirSectionInOrder(t *testing.T) {
	r := newRig(t, "timeout: 1s\n", nil)
	var timeouts []time.Duration
	var pairs []pair
	Subscribe(r.Manager, "timeout", func(c *settings) time.Duration { return c.Timeout }, func(d time.Duration) { timeouts = append(timeouts, d) })
	Subscribe(r.Manager, "panics", func(c *settings) time.Duration { return c.Timeout }, func(time.Duration) { panic("hush-hush") })
	Subscribe(r.Manager, "pair", func(c *settings) pair { return c.Pair }, func(p pair) { pairs = append(pairs, p) })
	r.start(t)
	for _, y := range []string{"timeout: 2s\n", pairYAML(1) + "timeout: 2s\n", "timeout: 2s\nworkers: 1\n", "timeout: 3s\n"} {
		r.reload(t, y)
	}
	if !slices.Equal(timeouts, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}) {
		t.Errorf("timeouts %v", timeouts)
	}
	if !slices.Equal(pairs, []pair{{}, {1, 1}, {}}) {
		t.Errorf("pairs %v", pairs)
	}
	if text := r.logs.String(); !strings.Contains(text, "panics") || strings.Contains(text, "hush-hush") {
		t.Errorf("the panic of a subscriber in the log: %s", text)
	}
}
