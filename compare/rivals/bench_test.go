package rivals

import (
	"testing"
	"time"
)

// benchmarkedKeys is the size of the documents in the benchmarks.
const benchmarkedKeys = 10_000

func openForBenchmark(b *testing.B) libraries {
	b.Helper()
	libs, err := openLibraries(b.Context(), benchmarkedKeys, section)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := libs.close(); err != nil {
			b.Error(err)
		}
	})
	return libs
}

// BenchmarkRead is one read of a setting from the value in force.
func BenchmarkRead(b *testing.B) {
	for _, l := range openForBenchmark(b).all() {
		b.Run("lib="+l.name, func(b *testing.B) {
			b.ReportAllocs()
			l.read(b.N) // the loop is inside, so that no call through a pointer is measured
		})
	}
}

// BenchmarkReadPinned is one read under a lease: Pin, From, release.
func BenchmarkReadPinned(b *testing.B) {
	l := openForBenchmark(b).pinned
	b.Run("lib="+l.name, func(b *testing.B) {
		b.ReportAllocs()
		l.read(b.N)
	})
}

// BenchmarkReload10000Keys is one reload from the text to its effect.
func BenchmarkReload10000Keys(b *testing.B) {
	for _, l := range openForBenchmark(b).all() {
		b.Run("lib="+l.name, func(b *testing.B) {
			b.ReportAllocs()
			var effect time.Duration
			for b.Loop() {
				took, err := l.reload(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				effect += took
			}
			b.ReportMetric(milliseconds(effect)/float64(b.N), "ms-to-effect")
		})
	}
}
