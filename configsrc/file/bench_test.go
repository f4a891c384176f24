package file

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// BenchmarkEditToReturn is the time from the end of an edit to the return of
// the call that waited for it. Run it with -benchtime 200x.
func BenchmarkEditToReturn(b *testing.B) {
	for name, edit := range map[string]func(path, data string){
		"rename":   func(path, data string) { replaceFile(b, path, []byte(data), 0o600) },
		"in place": func(path, data string) { write(b, path, data) },
	} {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "config.yaml")
			write(b, path, doc("0"))
			s := newSource(b, path, Options{})
			v := start(b, s, configsrc.Version{}).value("0")
			var took []time.Duration
			for n := range b.N {
				want := fmt.Sprint("edit ", n)
				p := start(b, s, v)
				time.Sleep(5 * time.Millisecond) // until it waits
				edit(path, doc(want))
				edited := time.Now()
				v = p.value(want)
				took = append(took, time.Since(edited))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			b.ReportMetric(0, "ns/op")
		})
	}
}
