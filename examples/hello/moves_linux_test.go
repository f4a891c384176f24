package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMoves edits the address under the running program, and asks for a restart.
func TestMoves(t *testing.T) {
	first, second := freeAddress(t), freeAddress(t)
	dir := t.TempDir()
	edit := func(address, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "hello.yaml"), []byte("server: {listen: ["+address+"]}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(first, "")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Dir, cmd.Env = dir, append(os.Environ(), runAsMain+"=1")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, first, "Hello, you! (2 workers)")
	edit(second, "workers: 5\n")
	until(t, second, "Hello, you! (5 workers)")
	for range 3 {
		if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if got := hello(t, second, "you"); got != "Hello, you! (5 workers)\n" {
				t.Fatalf("during a restart: %q", got)
			}
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
}
