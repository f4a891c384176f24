package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestArguments(t *testing.T) {
	var help strings.Builder
	if err := run(t.Context(), []string{"-h"}, io.Discard, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v, want %v", err, flag.ErrHelp)
	}
	for _, name := range []string{"-json", "-seed", "-restarts", "-protocol", "-gap", "-only-restarts"} {
		if !strings.Contains(help.String(), name) {
			t.Errorf("the help does not name %s", name)
		}
	}
	for _, args := range [][]string{{"more"}, {"-none"}, {"-seed", "x"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, io.Discard); err == nil || out.Len() > 0 {
			t.Errorf("%q: %v and %q, want an error alone", args, err, out.String())
		}
	}
}

func TestRunThatIsInterruptedPrintsNoTable(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{nil, {"-json"}} {
		var out bytes.Buffer
		if err := run(ctx, args, &out, io.Discard); !errors.Is(err, context.Canceled) || out.Len() > 0 {
			t.Errorf("%q: %v and %q, want that the context was canceled", args, err, out.String())
		}
	}
}
