//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests look at real processes, signals and exit codes. The service is
// the test binary itself, so that it runs under the race detector where the
// tests do. The commands beside it are a plain build: there are hundreds, and
// the race detector makes each start slow.
const runAsMain = "SVC_TEST_RUN_AS_MAIN"

// plainBuild is the program as users have it.
const plainBuild = "SVC_TEST_PLAIN_BUILD"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(runAsMain) != "":
		main()
		return
	case os.Getenv(runAsRecorder) != "":
		mainRecorder()
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "svc-build")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "svc")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		panic("build svc: " + err.Error() + "\n" + string(out))
	}
	if err := os.Setenv(plainBuild, program); err != nil {
		panic(err)
	}
	return m.Run()
}

// folder is a folder to run the program in.
type folder struct {
	t    testing.TB
	dir  string
	env  []string
	self string // the program
	uid  uint32 // whom to run it as; 0: who runs the test
}

func newFolder(t testing.TB, config string) *folder {
	t.Helper()
	f := &folder{t: t, dir: t.TempDir(), self: os.Getenv(plainBuild)}
	if config != "" {
		f.write("config.yaml", config)
	}
	return f
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *folder) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// edit replaces the config the way an editor does.
func (f *folder) edit(text string) {
	f.t.Helper()
	f.write("config.yaml.new", text)
	if err := os.Rename(f.path("config.yaml.new"), f.path("config.yaml")); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), f.self, args...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), f.env...)
	if f.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: f.uid, Gid: f.uid, NoSetGroups: true}}
	}
	return cmd
}

// result is a finished command.
type result struct {
	stdout, stderr string
	code           int
}

// svc runs a command to its end, which must come within 20 seconds.
func (f *folder) svc(args ...string) result {
	f.t.Helper()
	return f.svcInput("", args...)
}

func (f *folder) svcInput(stdin string, args ...string) result {
	f.t.Helper()
	cmd := f.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		f.t.Fatalf("svc %v: %v", args, err)
	}
	kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("svc %v: %v", args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// want fails unless the command ended with the code and said each text.
func (r result) want(t testing.TB, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%q is missing\nstdout: %s\nstderr: %s", text, r.stdout, r.stderr)
		}
	}
}

// running is a service under way.
type running struct {
	*folder
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
	url  string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs the service until the end of the test, or stop.
func (f *folder) start(flags ...string) *running {
	f.t.Helper()
	r := &running{folder: f, cmd: f.command(append([]string{"run"}, flags...)...), log: &lockedBuffer{}, done: make(chan struct{})}
	r.cmd.Path = os.Args[0]
	r.cmd.Env = append(r.cmd.Env, runAsMain+"=1")
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	if err := r.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	f.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
		if log := r.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
			f.t.Errorf("the service's log: %s", log)
		}
	})
	if got := f.svc("status", "--wait", "--timeout", "15s"); got.code != 0 {
		f.t.Fatalf("the service did not start: %s\n%s", got.stderr, r.log)
	}
	r.url = "http://" + r.status().Listeners[0]
	return r
}

func (r *running) status() status {
	r.t.Helper()
	var st status
	got := r.svc("status", "--output", "json")
	if err := json.Unmarshal([]byte(got.stdout), &st); err != nil {
		r.t.Fatalf("status: %v\n%s%s", err, got.stdout, got.stderr)
	}
	return st
}

// signal sends a signal to the service.
func (r *running) signal(s os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// exited waits for the service's end and returns its exit code.
func (r *running) exited() int {
	r.t.Helper()
	select {
	case <-r.done:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		r.t.Fatalf("the service does not end\n%s", r.log)
		return 0
	}
}

// get returns the status and body of a request to the service.
func (r *running) get(path string) (int, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("GET %s: %v\n%s", path, err, r.log)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// until waits for a condition.
func (r *running) until(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
	}
	r.t.Fatalf("never: %s\n%s\n%+v", what, r.log, r.status())
}

// freeAddress is an address that nobody listens on at the moment.
func freeAddress(t testing.TB) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
