package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkRequest compares a keep-alive request through a Server with one
// through the same gin engine on a bare http.Server.
func BenchmarkRequest(b *testing.B) {
	gin.SetMode(gin.ReleaseMode)
	engine := func(ms ...gin.HandlerFunc) *gin.Engine {
		e := gin.New()
		e.Use(ms...)
		e.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
		return e
	}
	b.Run("plain", func(b *testing.B) {
		ln := listenForBench(b)
		s := &http.Server{Handler: engine(requestTimeout), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Serve(ln)
		}()
		ask(b, ln.Addr().String())
		_ = s.Close()
		<-done
	})
	for _, bm := range []struct {
		name string
		o    Options
		edit func(*Config)
	}{
		{"server, no request time", Options{Handler: engine()}, requestTime(0)},
		{"server", Options{Handler: engine()}, func(*Config) {}},
		{"server, pin and metrics", Options{
			Handler:    engine(Pattern()),
			Registerer: prometheus.NewRegistry(),
			Pin: func(ctx context.Context) (context.Context, func()) {
				return context.WithValue(ctx, benchKey{}, &benchKey{}), func() {}
			},
		}, func(*Config) {}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			bm.o.Logger = slog.New(slog.DiscardHandler)
			s := startOn(b, []net.Listener{listenForBench(b)}, bm.o, bm.edit)
			ask(b, s.addr)
			_ = s.Close()
			<-s.ended
		})
	}
}

// requestTimeout is how a gin service limits its requests by itself.
func requestTimeout(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), 15*time.Second)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

type benchKey struct{}

func listenForBench(b *testing.B) net.Listener {
	b.Helper()
	listeners, err := Listen(b.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	return listeners[0]
}

// ask sends requests one after the other on one connection; what it allocates
// itself is small and the same for all.
func ask(b *testing.B, addr string) {
	b.Helper()
	var d net.Dialer
	nc, err := d.DialContext(b.Context(), "tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	r := bufio.NewReader(nc)
	request := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nc.Write(request); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := io.CopyN(io.Discard, r, int64(len("hello"))); err != nil {
			b.Fatal(err)
		}
	}
}
