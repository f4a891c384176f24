package liveconn_test

import (
	"net/http"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

// A handler that holds its connection says good-bye when the server drains, at a
// moment that is not that of all others.
func ExampleConn_Draining() {
	_ = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := liveconn.FromContext(r.Context())
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		ticks := time.NewTicker(time.Second)
		defer ticks.Stop()
		draining, leave := conn.Draining(), (<-chan time.Time)(nil)
		for {
			select {
			case <-ticks.C:
				_, _ = rw.WriteString("tick\n")
			case <-draining:
				at, _ := conn.Leave() // at the second time it is closed
				draining, leave = nil, time.After(time.Until(at))
			case <-leave:
				_, _ = rw.WriteString("come back\n")
				_ = rw.Flush()
				return
			}
			if rw.Flush() != nil {
				return
			}
		}
	})
}
