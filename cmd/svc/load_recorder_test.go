//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clients "github.com/hotsvc/svc/internal/load"
	"github.com/hotsvc/svc/internal/testcert"
	"github.com/hotsvc/svc/server/keeper"
)

// recording is a recorder under way.
type recording struct {
	*running
	settings recorder
	target   clients.Target
}

// startRecorder starts a recorder on one address of a network, with TLS or not.
func startRecorder(t *testing.T, network string, secure bool, s recorder) *recording {
	t.Helper()
	f := newFolder(t, "")
	if err := os.Mkdir(f.path(".svc"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &recording{settings: s, target: clients.Target{Network: network}}
	if network == "unix" {
		r.target.Address = f.path("socket")
		r.settings.Listen = []string{"unix:" + r.target.Address}
	} else {
		r.target.Address = freeAddress(t)
		r.settings.Listen = []string{r.target.Address}
	}
	if secure {
		certificate := testcert.SelfSigned("recorder")
		r.settings.Cert, r.settings.Key = testcert.PEM(certificate)
		roots := x509.NewCertPool()
		roots.AddCert(certificate.Leaf)
		r.target.TLS = &tls.Config{RootCAs: roots, ServerName: testcert.Host, MinVersion: tls.VersionTLS12}
	}
	data, err := json.Marshal(r.settings)
	if err != nil {
		t.Fatal(err)
	}
	f.write(recorderSettings, string(data))
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), runAsRecorder+"=1", quickEnd)
	r.running = f.launched(cmd)
	r.serves(1)
	return r
}

// quickEnd keeps the race detector from waiting a second at the end of each
// process.
const quickEnd = "GORACE=atexit_sleep_ms=0"

// serves waits until a generation accepts.
func (r *running) serves(generation int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("generation %d serves", generation), func() bool {
		known, err := keeper.Ask(r.t.Context(), r.path(".svc"))
		return err == nil && known.Serving == generation
	})
}

// eventually is until for a service whose status command has nobody to ask.
func (r *running) eventually(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	r.t.Fatalf("never: %s\n%s", what, r.log)
}

// restart restarts and returns when the new generation accepts.
func (r *running) restart() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := keeper.AskRestart(ctx, r.path(".svc")); err != nil {
		r.t.Fatalf("restart: %v\n%s", err, r.log)
	}
}

// serving is the process of the generation that accepts.
func (r *running) serving() int {
	r.t.Helper()
	known := r.known()
	for _, g := range known.Generations {
		if g.Number == known.Serving {
			return g.PID
		}
	}
	r.t.Fatalf("no generation serves: %+v\n%s", known, r.log)
	return 0
}

// alone waits for the end of all generations but the one that serves, and for
// nothing to be left of them.
func (r *running) alone() {
	r.t.Helper()
	r.eventually("the end of the old generations", func() bool { return len(r.known().Generations) == 1 })
	r.eventually("one child", func() bool { return len(r.workers()) == 1 })
}

// stopped stops the service and fails unless that cuts nothing off, and leaves
// no socket file of the service behind.
func (r *running) stopped() {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	if code := r.exited(); code != 0 {
		r.t.Errorf("exit code %d\n%s", code, r.log)
	}
	for _, pattern := range []string{"*", ".svc/*"} {
		paths, err := filepath.Glob(r.path(pattern))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, path := range paths {
			if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
				r.t.Errorf("%s is left", filepath.Base(path))
			}
		}
	}
}

// executed is how often each request of the record was executed.
func (r *recording) executed() map[uint64]int {
	r.t.Helper()
	executed := map[uint64]int{}
	if err := clients.ReadRecord(r.path(recorderRecord), func(id uint64) { executed[id]++ }); err != nil {
		r.t.Fatal(err)
	}
	return executed
}

// dial connects to the recorder until the end of the test.
func (r *recording) dial() net.Conn {
	r.t.Helper()
	var d net.Dialer
	nc, err := d.DialContext(r.t.Context(), r.target.Network, r.target.Address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return nc
}

// cuts are the lines of the log that tell what was cut off.
func (r *running) cuts() []string {
	lines := strings.Split(r.log.String(), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, "cut off") })
}

// wantNoFailure fails when a client has seen a failure, and says which.
func wantNoFailure(t *testing.T, r clients.Result) {
	t.Helper()
	for name, g := range map[string]clients.Group{"fresh": r.Fresh, "busy": r.Busy, "idle": r.Idle} {
		if g.Clients == 0 {
			continue
		}
		t.Logf("%s: %d clients, %d of %d requests answered, %d connections kept, %d told to end, %d ended, p50 %v, p99 %v",
			name, g.Clients, g.Answered, g.Requests, g.Kept, g.Told, g.Ended, g.Latency(0.5), g.Latency(0.99))
		if g.Answered == 0 {
			t.Errorf("%s: no answer", name)
		}
		for kind, f := range g.Failures {
			t.Errorf("%s: %d failed, %s: %q", name, f.Count, kind, f.Texts)
		}
	}
}
