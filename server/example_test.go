package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/hotsvc/svc/server"
)

// A gin engine of one's own, served until the context ends.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/hello", func(c *gin.Context) { c.String(http.StatusOK, "hello") })

	config := server.Default()
	config.Listen = []string{"127.0.0.1:0"}
	if err := config.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	listeners, err := server.Listen(ctx, config.Listen)
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := server.New(server.Options{
		Config:  func(context.Context) *server.Config { return &config },
		Handler: engine,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, listeners) }()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.Addrs(listeners)[0]+"/hello", http.NoBody)
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := &http.Transport{}
	res, err := transport.RoundTrip(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	fmt.Println(string(body), err)
	transport.CloseIdleConnections()

	stop() // in a program: signal.NotifyContext
	fmt.Println(<-ended)
	// Output:
	// hello <nil>
	// <nil>
}
