package keeper

import (
	"reflect"
	"testing"
	"time"
)

// Times of the clock must not cross the pair: the clock may be set meanwhile, and
// what a process has read of it has no monotonic part in another one. Those of the
// table are for people.
func TestMessagesHaveNoTimes(t *testing.T) {
	t.Parallel()
	clock := reflect.TypeFor[time.Time]()
	for f := range reflect.TypeFor[message]().Fields() {
		if f.Type == clock || f.Type == reflect.PointerTo(clock) {
			t.Errorf("field %s is a time", f.Name)
		}
	}
}
