package server

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestListenOpensAllInOrder(t *testing.T) {
	listeners, err := Listen(t.Context(), []string{"127.0.0.1:0", "localhost:0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ln := range listeners {
		dial(t, ln.Addr().String())
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(listeners) != 2 {
		t.Errorf("%d listeners", len(listeners))
	}
}

func TestListenAllOrNone(t *testing.T) {
	taken, err := Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	free, err := Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	freeAddr, takenAddr := free[0].Addr().String(), taken[0].Addr().String()
	if err := free[0].Close(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken[0].Close() }()

	_, err = Listen(t.Context(), []string{freeAddr, takenAddr})
	wantError(t, err, "listen on "+takenAddr+": another program listens on this address; choose another, or stop it")
	again, err := Listen(t.Context(), []string{freeAddr})
	if err != nil {
		t.Fatalf("the first listener was not closed: %v", err)
	}
	_ = again[0].Close()
}

func TestListenErrors(t *testing.T) {
	// 192.0.2.1 is for documentation; a name below .invalid never resolves.
	_, err := Listen(t.Context(), []string{"192.0.2.1:0"})
	wantError(t, err, "listen on 192.0.2.1:0: this machine does not have the address; choose another")
	_, err = Listen(t.Context(), []string{"nobody.invalid:0"})
	wantError(t, err, "listen on nobody.invalid:0: the host name does not resolve")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Listen(canceled, []string{"nobody.invalid:0"})
	wantError(t, err, "listen on nobody.invalid:0: ")
}

func wantError(t *testing.T, err error, prefix string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), prefix) {
		t.Errorf("error %v, want %q at its start", err, prefix)
	}
}

// listenAsChild is the child of TestListenWithoutRight.
func listenAsChild(addr string) {
	listeners, err := Listen(context.Background(), []string{addr})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return
	}
	_, _ = fmt.Fprintln(os.Stdout, "listens")
	_ = listeners[0].Close()
}
