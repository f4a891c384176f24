package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/server/keeper"
)

// runAsMain makes the test binary the program itself, which starts itself again.
const runAsMain = "HELLO_TEST_RUN_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsMain) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// hello is what the program answers, or the error.
func hello(t *testing.T, address, name string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/hello/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func until(t *testing.T, address, want string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = hello(t, address, "you"); strings.HasPrefix(got, want) {
			return
		}
	}
	t.Fatalf("got %q, want %q", got, want)
}

// TestHello changes each kind of setting under the running example.
func TestHello(t *testing.T) {
	dir := t.TempDir()
	address := freeAddress(t)
	path := filepath.Join(dir, "hello.yaml")
	edit := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("server: {listen: ["+address+"]}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit("greeting: Good morning\nvisitors: " + filepath.Join(dir, "first") + "\n")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		// In this process, so that a change to the workers stays undone.
		done <- keeper.Run(ctx, keeper.Options{Direct: true}, func(ctx context.Context, w *keeper.Worker) error { return run(ctx, w, path) })
	}()
	until(t, address, "Good morning, you! (2 workers)")

	// In place, with the resource rebuilt; the workers need a restart and stay.
	edit("greeting: Good evening\nworkers: 9\nvisitors: " + filepath.Join(dir, "second") + "\n")
	until(t, address, "Good evening, you! (2 workers)")
	hello(t, address, "ann")
	for name, want := range map[string]bool{"first": false, "second": true} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Contains(string(data), "ann") != want {
			t.Errorf("visitors in %s: %q, %v", name, data, err)
		}
	}
	// Retired: the first file is closed.
	if runtime.GOOS == "linux" {
		for deadline := time.Now().Add(10 * time.Second); isOpen(t, filepath.Join(dir, "first")); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the file of the setting before is still open")
			}
		}
		if !isOpen(t, filepath.Join(dir, "second")) {
			t.Error("the file of the setting in force is not open")
		}
	}
	// A file that cannot be opened refuses the whole change.
	edit("greeting: Good night\nvisitors: " + filepath.Join(dir, "no", "such", "folder") + "\n")
	time.Sleep(time.Second)
	until(t, address, "Good evening, you!")

	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// isOpen reports whether this process has the file open.
func isOpen(t *testing.T, path string) bool {
	t.Helper()
	const fds = "/proc/self/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(fds, e.Name())); err == nil && target == path {
			return true
		}
	}
	return false
}
