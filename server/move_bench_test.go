//go:build unix

package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkMove moves idle connections to another server of this process, beside
// 16 busy clients. ms/move is the time until the last one is served there, p99-ms
// that of the busy clients' answers meanwhile.
func BenchmarkMove(b *testing.B) {
	const idle, busy = 5000, 16
	var move, worst float64
	for range b.N {
		g := startGenerations(b, handler(hello), func(c *Config) { c.Timeout.ReadHeader = time.Minute })
		addr := g.socket.Addr().String()
		conns := make([]net.Conn, idle)
		for i := range conns {
			nc, err := net.Dial("tcp", addr) //nolint:noctx // a benchmark
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = nc
			if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				b.Fatal(err)
			}
		}
		for _, nc := range conns {
			if res, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil || res.Body.Close() != nil {
				b.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(b.Context())
		took := make([][]time.Duration, busy)
		var clients sync.WaitGroup
		for i := range busy {
			c := client(b)
			clients.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					res, err := c.Get("http://" + addr + "/") //nolint:noctx // a benchmark
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
					took[i] = append(took[i], time.Since(began))
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		began := time.Now()
		old, a := g.next(b)
		eventually(b, "end of the move", func() bool { return old.registry.Empty() })
		moved := time.Since(began)
		cancel()
		clients.Wait()
		old.Settle()
		if err := old.wait(b); err != nil {
			b.Error(err)
		}
		if err := a.wait(b); err != nil {
			b.Error(err)
		}
		all := slices.Concat(took...)
		slices.Sort(all)
		move += moved.Seconds() * 1e3
		worst += all[len(all)*99/100].Seconds() * 1e3
		b.Logf("moved %d in %v; %d requests: p50 %v p99 %v max %v", old.registry.MovedCount(), moved, len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
		for _, nc := range conns {
			_ = nc.Close()
		}
		g.current.stop()
		_ = g.current.Close()
		_ = g.current.wait(b)
	}
	b.ReportMetric(move/float64(b.N), "ms/move")
	b.ReportMetric(worst/float64(b.N), "p99-ms")
	b.ReportMetric(0, "ns/op")
}
