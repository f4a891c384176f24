package rivals

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hotsvc/svc/internal/load"
)

// generationEnv makes this program a process of a service that is restarted: it
// is the path of a file with a generation. Those that such a process starts
// inherit it.
const generationEnv = "RIVALS_GENERATION"

// generation is a process of a service that is restarted, as it sees itself.
type generation struct {
	System      string `json:"system"`
	Network     string `json:"network"`
	Address     string `json:"address"`     // port 0 is any
	Inherited   bool   `json:"inherited"`   // the listener is file descriptor 3
	Control     string `json:"control"`     // the unix socket of who measures
	Record      string `json:"record"`      // see load.Record
	Certificate string `json:"certificate"` // PEM; "" is without TLS
	Key         string `json:"key"`
	StateDir    string `json:"state_dir"` // for what keeps one

	reports *reporter
	record  *load.Record
	closing atomic.Bool // answer with Connection: close
}

// report is a line to who measures.
type report struct {
	PID     int    `json:"pid"`
	Stage   stage  `json:"stage"`
	Address string `json:"address,omitempty"` // where it serves
	Reason  string `json:"reason,omitempty"`  // why a restart was refused
}

// stage is how far a process has come.
type stage string

const (
	stageStarted stage = "started"
	stageServing stage = "serving" // and takes the signal for a restart
	stageAlone   stage = "alone"   // nothing of the process before is left
	stageRefused stage = "refused" // a restart was asked for and will not come
)

// reporter writes reports. Its methods may be called from many goroutines.
type reporter struct {
	mu   sync.Mutex
	conn net.Conn
}

func (r *reporter) report(s stage, address, reason string) error {
	line, err := json.Marshal(report{os.Getpid(), s, address, reason})
	if err != nil {
		return fmt.Errorf("report %s: %w", s, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("report %s: %w", s, err)
	}
	return nil
}

// serveGeneration is such a process. It ends when who measures does, or closes
// its connection, whatever else happens.
func serveGeneration(ctx context.Context, path string) (err error) {
	data, err := os.ReadFile(path) //nolint:gosec // the file of who measures
	if err != nil {
		return fmt.Errorf("read the generation: %w", err)
	}
	g := &generation{}
	if err := json.Unmarshal(data, g); err != nil {
		return fmt.Errorf("read the generation: %w", err)
	}
	system, ok := systemOf(g.System)
	if !ok {
		return fmt.Errorf("no such system: %q", g.System)
	}
	var d net.Dialer
	control, err := d.DialContext(ctx, "unix", g.Control)
	if err != nil {
		return fmt.Errorf("report to who measures: %w", err)
	}
	g.reports = &reporter{conn: control}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		_, _ = bufio.NewReader(control).ReadByte() // nothing is ever sent
		cancel()
	})
	defer func() {
		cancel()
		err = errors.Join(err, control.Close())
		running.Wait()
	}()
	if err := g.reports.report(stageStarted, "", ""); err != nil {
		return err
	}
	if g.record, err = load.OpenRecord(g.Record); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.record.Close()) }()
	return system.serve(ctx, g)
}

// drainLimit is how long a process may take to end.
const drainLimit = 30 * time.Second

// server is what all systems serve with, but ours. It is a plain http.Server.
func (g *generation) server() (*http.Server, error) {
	handler := load.Handler(g.record)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if g.closing.Load() {
				w.Header().Set("Connection", "close")
			}
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: drainLimit,
	}
	if g.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(g.Certificate), []byte(g.Key))
		if err != nil {
			return nil, fmt.Errorf("load the certificate: %w", err)
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return srv, nil
}

// accept serves until the listener or the server is closed.
func accept(srv *http.Server, ln net.Listener) error {
	err := error(nil)
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serveBare is the server without restarts, on a listener that is there already.
func serveBare(ctx context.Context, g *generation) error {
	if !g.Inherited {
		return errors.New("serve: no listener was handed over")
	}
	file := os.NewFile(3, "listener") // the first of exec.Cmd.ExtraFiles
	ln, err := net.FileListener(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("take over the listener: %w", err)
	}
	srv, err := g.server()
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	ctx, end := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer end()
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := g.reports.report(stageServing, ln.Addr().String(), ""); err != nil {
		return errors.Join(err, ln.Close())
	}
	return accept(srv, ln)
}
