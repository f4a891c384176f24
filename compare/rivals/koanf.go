package rivals

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

// newKoanf holds the instance in an atomic pointer and replaces it whole: a
// koanf merges what it loads, so a key that is gone from the text would stay.
func newKoanf() *library {
	var current atomic.Pointer[koanf.Koanf]
	return &library{
		name:   "koanf",
		module: "github.com/knadh/koanf/v2",
		read: func(n int) time.Duration {
			var sum time.Duration
			for range n {
				sum += current.Load().Duration(setting)
			}
			return sum
		},
		load: func(_ context.Context, d document) (time.Duration, error) {
			began := time.Now()
			k := koanf.New(".")
			if err := k.Load(rawbytes.Provider(d.text), yaml.Parser()); err != nil {
				return 0, err
			}
			current.Store(k)
			return time.Since(began), nil
		},
	}
}
