package reload

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

var sink time.Duration // keeps the benchmark's loop from being removed

func BenchmarkLoad(b *testing.B) {
	r := newRig(b, "timeout: 3s", nil)
	if err := r.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		sink = r.Load().Config.Timeout
	}
}

func BenchmarkPin(b *testing.B) {
	r := newRig(b, "timeout: 3s", nil)
	if err := r.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx, release := r.Pin(context.Background())
		sink = r.From(ctx).Config.Timeout
		release()
	}
}

// manyKeys is a document of n public keys; seed makes it differ.
func manyKeys(n, seed int) string {
	var b strings.Builder
	b.WriteString("public:\n")
	for i := range n {
		fmt.Fprintf(&b, "  key%05d: value %d of %d\n", i, i, seed)
	}
	return b.String()
}

// BenchmarkReload10000Keys is one change of 10,000 keys from its YAML text to
// its effect: parse, merge, decode, validate, compare, swap, history; without
// and with the state folder, whose writes come after the effect.
func BenchmarkReload10000Keys(b *testing.B) {
	for _, disk := range []bool{false, true} {
		b.Run(fmt.Sprintf("disk=%v", disk), func(b *testing.B) {
			r := newRig(b, "", func(o *Options[settings]) {
				o.Logger = slog.New(slog.DiscardHandler)
				if disk {
					o.StateDir = b.TempDir()
				}
			})
			if err := r.Start(context.Background()); err != nil {
				b.Fatal(err)
			}
			documents := [2][]byte{[]byte(manyKeys(9_990, 1)), []byte(manyKeys(9_990, 2))}
			n := 0
			var effect time.Duration
			for b.Loop() {
				n++
				began := time.Now()
				values, err := configsrc.Flatten(configsrc.YAML, documents[n%2], configsrc.Origin{Source: "memory"}, configsrc.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				c, err := newContent(values, r.fixed, nil)
				if err != nil {
					b.Fatal(err)
				}
				e := r.decide(context.Background(), c, TriggerChange, stages{notified: began, fetched: time.Now()})
				if e.Outcome != Applied || len(e.Changed)+e.ChangedMore != 9_990 && n > 1 {
					b.Fatalf("outcome %s, %d changed", e.Outcome, len(e.Changed))
				}
				effect += time.Duration(e.StagesMS[stageApplied] * float64(time.Millisecond))
			}
			b.ReportMetric(float64(effect.Microseconds())/1000/float64(n), "ms-to-effect")
		})
	}
}
