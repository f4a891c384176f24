//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
)

// TestEditToEffect is the main job: a file is edited, the service follows.
func TestEditToEffect(t *testing.T) {
	f := newFolder(t, "")
	f.env = []string{"SVC_SET=server.listen=127.0.0.1:0"}
	r := f.start()
	if data, err := os.ReadFile(f.path("config.yaml")); err != nil || string(data) != string(defaultDocument) {
		t.Fatalf("the default config was not written: %v", err)
	}
	if code, body := r.get("/v1/echo?delay=300ms"); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	first := r.status()

	// A good edit.
	f.edit("server: {timeout: {request: 100ms}}\npublic: {greeting: hi}\n")
	r.until("the new request time", func() bool { code, _ := r.get("/v1/echo?delay=300ms"); return code == 503 })
	st := r.status()
	if st.Last.Outcome != reload.Applied || st.Last.Action != reload.ActionInPlace ||
		!slices.Equal(st.Last.Changed, []string{"public.greeting", "server.timeout.request"}) || st.Revision == first.Revision || st.KeeperPID != r.cmd.Process.Pid {
		t.Errorf("status %+v", st)
	}
	code, body := r.get("/v1/config")
	var public struct {
		Revision string         `json:"revision"`
		Public   map[string]any `json:"public"`
	}
	if err := json.Unmarshal([]byte(body), &public); err != nil || code != 200 || public.Revision != st.Revision || public.Public["greeting"] != "hi" {
		t.Errorf("/v1/config: %d %s %v", code, body, err)
	}

	// A broken edit: says why, changes nothing.
	for _, broken := range []struct{ yaml, says string }{
		{"server:\n  timeout: {request: 3 parsecs}\n", "./config.yaml:2: server.timeout.request: want a duration"},
		{"server:\n\ttimeout: 3s\n", "config.yaml:2"},
		{"server: {timeout: {request: -1s}}\n", "must not be negative"},
		{"public: {a: 1, a: 2}\n", "config.yaml:1"},
	} {
		f.edit(broken.yaml)
		r.until("a refusal that says "+broken.says, func() bool {
			last := r.status().Last
			return last.Outcome == reload.Refused && strings.Contains(last.Reason, broken.says)
		})
		if now := r.status(); now.Revision != st.Revision || !now.Healthy {
			t.Errorf("status %+v", now)
		}
		if code, _ := r.get("/v1/echo?delay=300ms"); code != 503 {
			t.Errorf("a refused edit changed the request time: %d", code)
		}
		f.svc("reload").want(t, 1, broken.says)
	}
	f.svc("status").want(t, 0, "refused")

	// Gone: stale with the last content, never empty; and back.
	if err := os.Remove(f.path("config.yaml")); err != nil {
		t.Fatal(err)
	}
	r.until("stale", func() bool { st := r.status(); return st.Source.Stale && st.Source.Error != "" })
	if now := r.status(); now.Revision != st.Revision || !now.Healthy {
		t.Errorf("status %+v", now)
	}
	f.svc("reload").want(t, 1, "not found")
	f.edit("server: {timeout: {request: 5s}}\n")
	r.until("the file is followed again", func() bool { code, _ := r.get("/v1/echo?delay=300ms"); return code == 200 })
	if now := r.status(); now.Source.Stale || now.Last.Outcome != reload.Applied {
		t.Errorf("status %+v", now)
	}

	// Plans.
	f.env = nil // what the command sees is not what the service was started with
	f.write("new.yaml", "server:\n  timeout: {request: 4s}\npublic: {x: 1}\nlog: {level: debug}\n")
	f.svc("plan", "new.yaml").want(t, 3, "server.timeout.request", "in place", "5s -> 4s", "log.level")
	f.svc("plan", "config.yaml").want(t, 0, "nothing would change")
	f.svcInput("server: {timeout: {request: never}}", "plan", "-").want(t, 1, "stdin:1: server.timeout.request")

	// History, rollback, resume.
	f.svc("history").want(t, 0, "refused", "applied", "server.timeout.request")
	if got := f.svc("history"); strings.Contains(got.stdout, "parsecs") {
		t.Errorf("the history holds a value: %s", got.stdout)
	}
	f.svc("rollback", st.Revision).want(t, 0, "applied")
	if code, _ := r.get("/v1/echo?delay=300ms"); code != 503 {
		t.Errorf("after the rollback: %d", code)
	}
	f.svc("status").want(t, 0, "pinned")
	f.edit("server: {timeout: {request: 6s}}\n")
	f.svc("reload").want(t, 0, "unchanged", "pinned")
	f.svc("rollback", "--resume").want(t, 0, "applied")
	if code, _ := r.get("/v1/echo?delay=300ms"); code != 200 {
		t.Errorf("after the resume: %d", code)
	}
	f.svc("rollback", "000000000000").want(t, 1, "no content of this revision is kept")
	f.svc("rollback").want(t, 2, "--resume")
	f.svc("config", "--origin").want(t, 0, "server.timeout.request", "6s", "file ./config.yaml:1", "SVC_SET server.listen", "default")

	r.signal(syscall.SIGTERM)
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d after TERM\n%s", code, r.log)
	}
	f.svc("status").want(t, 1, "no service answers", "svc run")
}

func TestListenerChange(t *testing.T) {
	address, other := freeAddress(t), freeAddress(t)
	f := newFolder(t, "server: {listen: ['"+address+"']}\n")
	r := f.start()
	f.write("new.yaml", "server: {listen: ['"+other+"']}\n")
	got := f.svc("plan", "new.yaml")
	got.want(t, 3, "server.listen", "restart", other, "needs a restart")
	var plan planResult
	if err := json.Unmarshal([]byte(f.svc("plan", "new.yaml", "-o", "json").stdout), &plan); err != nil || plan.Action != reload.ActionRestart || len(plan.Changes) != 1 {
		t.Errorf("plan %+v, %v", plan, err)
	}
	f.edit("server: {listen: ['" + other + "'], timeout: {request: 77ms}}\n")
	r.until("the restart", func() bool { return r.status().Last.Outcome == reload.Restarted })
	before := r.url
	r.url = "http://" + other
	if code, _ := r.get("/v1/echo?delay=200ms"); code != 503 {
		t.Errorf("the live part does not apply: %d", code)
	}
	st := r.status()
	if st.Generation != 2 || !slices.Equal(st.Listeners, []string{other}) || st.KeeperPID != r.cmd.Process.Pid || len(st.Generations) != 2 {
		t.Errorf("%+v", st)
	}
	f.svc("reload").want(t, 0, "unchanged")
	f.svc("status").want(t, 0, "restarted", "generation 2 took over", "still listens on "+address, "ends by")
	// The old address is served for server.drain.overlap more, and then no more.
	r.url = before
	if code, _ := r.get("/v1/config"); code != http.StatusOK {
		t.Errorf("the old address answers with %d", code)
	}
	r.until("the end of the old address", func() bool {
		_, err := net.DialTimeout("tcp", address, time.Second) //nolint:noctx // it is this machine
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	r.until("the end of the old generation", func() bool { return len(r.status().Generations) == 1 })

	// Without a keeper there is nobody to restart.
	alone := newFolder(t, "server: {listen: ['"+address+"']}\n")
	r = alone.start("--no-keeper")
	alone.edit("server: {listen: ['" + other + "'], timeout: {request: 77ms}}\n")
	r.until("restart_required", func() bool { return r.status().Last.Outcome == reload.RestartRequired })
	if code, _ := r.get("/v1/echo?delay=200ms"); code != 503 {
		t.Errorf("the live part does not apply: %d", code)
	}
	alone.svc("reload").want(t, 1, "restart_required", "server.listen")
	alone.svc("status").want(t, 0, "restart_required")
	alone.svc("restart").want(t, 1, "--no-keeper")
}

func TestSignals(t *testing.T) {
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	r := f.start()
	r.signal(syscall.SIGHUP)
	r.until("a re-read", func() bool {
		return strings.Contains(r.log.String(), `"msg":"re-read on signal","generation":1,"outcome":"unchanged"`)
	})
	r.signal(syscall.SIGQUIT)
	for _, pid := range []int{r.status().KeeperPID, r.status().Generations[0].PID} {
		r.until("goroutines", func() bool { return strings.Contains(r.log.String(), fmt.Sprintf("goroutines of process %d:", pid)) })
	}
	r.signal(syscall.SIGUSR2)
	r.until("a restart on USR2", func() bool { return r.status().Generation == 2 })
	if !r.status().Healthy {
		t.Error("not healthy after signals")
	}
	// A request under way is finished by the first TERM ...
	answered := make(chan int, 1)
	go func() {
		code, _ := r.get("/v1/echo?delay=800ms")
		answered <- code
	}()
	time.Sleep(200 * time.Millisecond)
	r.signal(syscall.SIGTERM)
	if code := <-answered; code != 200 {
		t.Errorf("a request under way was answered with %d", code)
	}
	if code := r.exited(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	f := newFolder(t, "server: {listen: ['127.0.0.1:0'], timeout: {request: 0}}\n")
	r := f.start()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET /v1/echo?delay=10m HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	r.until("an active connection", func() bool { return r.status().Generations[0].Connections["http1"] == 1 })
	r.signal(syscall.SIGTERM)
	time.Sleep(300 * time.Millisecond)
	select {
	case <-r.done:
		t.Fatalf("ended with a request under way\n%s", r.log)
	default:
	}
	began := time.Now()
	r.signal(syscall.SIGINT)
	if code := r.exited(); code == 0 || time.Since(began) > 3*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(began))
	}
}

func TestLastGoodStartsWithoutTheFile(t *testing.T) {
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\npublic: {from: last good}\n")
	r := f.start()
	revision := r.status().Revision
	r.signal(syscall.SIGKILL)
	r.exited()
	if err := os.Remove(f.path("config.yaml")); err != nil {
		t.Fatal(err)
	}
	r = f.start()
	st := r.status()
	if st.Revision != revision || !st.Source.Stale || st.Fallback == "" || !st.Healthy {
		t.Errorf("status %+v", st)
	}
	if _, err := os.Stat(f.path("config.yaml")); err == nil {
		t.Error("a default config was written although there is a last good one")
	}
	f.svc("status").want(t, 0, "last good", "not found")
	f.edit("server: {listen: ['127.0.0.1:0']}\npublic: {from: the file}\n")
	r.until("the file is followed", func() bool { _, body := r.get("/v1/config"); return strings.Contains(body, "the file") })
	if st := r.status(); st.Source.Stale || st.Fallback != "" {
		t.Errorf("status %+v", st)
	}
}
