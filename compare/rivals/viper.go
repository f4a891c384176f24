package rivals

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/spf13/viper"
)

// newViper holds the instance in an atomic pointer and replaces it whole,
// because a viper may not be read while it loads.
func newViper() *library {
	var current atomic.Pointer[viper.Viper]
	return &library{
		name:   "viper",
		module: "github.com/spf13/viper",
		read: func(n int) time.Duration {
			var sum time.Duration
			for range n {
				sum += current.Load().GetDuration(setting)
			}
			return sum
		},
		load: func(_ context.Context, d document) (time.Duration, error) {
			began := time.Now()
			v := viper.New()
			v.SetConfigType("yaml")
			if err := v.ReadConfig(bytes.NewReader(d.text)); err != nil {
				return 0, err
			}
			current.Store(v)
			return time.Since(began), nil
		},
	}
}
