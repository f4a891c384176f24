package load

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestOptionsThatCannotBe(t *testing.T) {
	good := counts(Target{Network: "tcp", Address: "127.0.0.1:1"}, 1, 1, 1)
	for name, edit := range map[string]func(*Options){
		"no clients":     func(o *Options) { o.Fresh, o.Busy, o.Idle = 0, 0, 0 },
		"fewer than 0":   func(o *Options) { o.Busy = -1 },
		"no think times": func(o *Options) { o.ThinkMin = 0 },
		"max under min":  func(o *Options) { o.ThinkMax = o.ThinkMin / 2 },
		"no address":     func(o *Options) { o.Target.Address = "" },
		"udp":            func(o *Options) { o.Target.Network = "udp" },
		"h2 without TLS": func(o *Options) { o.Target.HTTP2 = true },
		"a timeout":      func(o *Options) { o.Timeout = -1 },
	} {
		o := good
		edit(&o)
		if l, err := Start(t.Context(), o); err == nil {
			_, _ = l.Stop()
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := NewProber(Target{Network: "udp"}); err == nil {
		t.Error("a prober of udp: no error")
	}
}

func TestThinkTimesAreSpread(t *testing.T) {
	o := Options{ThinkMin: time.Millisecond, ThinkMax: time.Second}
	random := rand.New(rand.NewPCG(1, 1))
	under := map[time.Duration]int{10 * time.Millisecond: 0, 100 * time.Millisecond: 0, time.Second: 0}
	for range 3000 {
		d := o.think(random)
		if d < o.ThinkMin || d > o.ThinkMax+time.Microsecond {
			t.Fatalf("a think time of %v", d)
		}
		for limit := range under {
			if d <= limit {
				under[limit]++
			}
		}
	}
	if n := under[10*time.Millisecond]; n < 800 || n > 1200 {
		t.Errorf("%d of 3000 are under 10 ms, want a third", n)
	}
	if n := under[100*time.Millisecond]; n < 1800 || n > 2200 {
		t.Errorf("%d of 3000 are under 100 ms, want two thirds", n)
	}
}
