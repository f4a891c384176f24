//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/hotsvc/svc/configsrc"
	clients "github.com/hotsvc/svc/internal/load"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/liveconn"
)

// recorder is a service of the test binary that writes down what it executes:
// the same keeper and server as of "svc run", with the application of
// internal/load. Each generation reads its settings anew from a file.
type recorder struct {
	Listen  []string      `json:"listen"`
	Cert    string        `json:"cert"` // "": without TLS
	Key     string        `json:"key"`
	Timeout time.Duration `json:"timeout"` // of a drain; 0 is the default
	// Generations is how many may drain at once; 0 is the default.
	Generations int `json:"generations"`
	// Request is server.timeout.request; 0 is none.
	Request time.Duration `json:"request"`
}

// runAsRecorder has the test binary run the recorder in its working folder.
const runAsRecorder = "SVC_TEST_RUN_AS_RECORDER"

// The files of the recorder, in its working folder.
const (
	recorderSettings = "recorder.json"
	recorderRecord   = "record"
)

func mainRecorder() {
	log := newLogger(os.Stderr, new(slog.LevelVar))
	o := keeper.Options{StateDir: ".svc", Logger: log}
	err := keeper.Run(context.Background(), o, func(ctx context.Context, w *keeper.Worker) error { return record(ctx, w, log) })
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "recorder:", err)
		os.Exit(1)
	}
}

// record is the work of a generation of the recorder.
func record(ctx context.Context, w *keeper.Worker, log *slog.Logger) (err error) {
	var settings recorder
	data, err := os.ReadFile(recorderSettings)
	if err == nil {
		err = json.Unmarshal(data, &settings)
	}
	if err != nil {
		return err
	}
	file, err := clients.OpenRecord(recorderRecord)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	config := server.Default()
	config.Listen = settings.Listen
	config.Timeout.Request = settings.Request
	config.Timeout.ReadHeader = time.Minute // a test may be slow to complete one
	config.Drain.Timeout = cmp.Or(settings.Timeout, config.Drain.Timeout)
	config.Drain.MaxGenerations = cmp.Or(settings.Generations, config.Drain.MaxGenerations)
	o := server.Options{
		Handler: recorderHandler(file), Logger: log,
		Config: func(context.Context) *server.Config { return &config },
	}
	if settings.Cert != "" {
		config.TLS.Mode = server.ModeTLS
		store, err := certs.Open(ctx, certs.Config{Cert: settings.Cert, Key: configsrc.Secret(settings.Key)}, certs.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		o.Certificates = store.Load
	}
	srv, err := server.New(o)
	if err != nil {
		return err
	}
	listeners, err := w.Listen(ctx, settings.Listen, 0o600)
	if err != nil {
		return err
	}
	return w.Serve(ctx, srv, listeners, keeper.Hooks{})
}

// recorderHandler is the application of internal/load, and beside it handlers
// that take their time.
func recorderHandler(file *clients.Record) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", clients.Handler(file))
	mux.HandleFunc("/stuck", func(http.ResponseWriter, *http.Request) { select {} })
	mux.HandleFunc("/long", longAnswer)
	mux.HandleFunc("/hijack", hijack)
	return mux
}

// longBytes is more than the buffers of a connection hold, so that whoever reads
// a part of it has the handler wait.
const longBytes = 16 << 20

// longBlock is what a body of longAnswer is made of.
const longBlock = 64 << 10

// longAnswer says which process it comes from, and then blocks that can be told
// from each other.
func longAnswer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Load-Pid", strconv.Itoa(os.Getpid()))
	w.Header().Set("Content-Length", strconv.Itoa(longBytes))
	for n := range longBytes / longBlock {
		if _, err := w.Write(blockOf(n)); err != nil {
			return // the client sees that it did not come
		}
	}
}

// blockOf is the block with a number.
func blockOf(n int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", n)), longBlock/8) }

// hijack takes the connection, and tells on it of the drain: that it has begun,
// and in how many milliseconds it is to be left, and closed at the latest. With
// the query "leave" it then leaves.
func hijack(w http.ResponseWriter, r *http.Request) {
	conn := liveconn.FromContext(r.Context())
	leave := r.URL.RawQuery == "leave"
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = nc.Close() }()
	_, _ = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\ntaken by %d\n", os.Getpid())
	<-conn.Draining()
	at, by := conn.Leave()
	_, _ = fmt.Fprintf(nc, "drain %d %d\n", time.Until(at).Milliseconds(), time.Until(by).Milliseconds())
	if !leave {
		_, _ = io.Copy(io.Discard, nc) // until it is closed under it
	}
}
