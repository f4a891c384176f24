package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotsvc/svc/reload"
)

// startManager starts a manager over a file with content.
func startManager(t *testing.T, content string, wire func(*reload.Manager[Config])) *reload.Manager[Config] {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bootstrap{env: &env{getenv: func(string) string { return "" }}, file: path}
	m, err := b.newManager(reload.Options[Config]{})
	if err != nil {
		t.Fatal(err)
	}
	wire(m)
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Run ends what Start has built.
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestDefaultDocument: the file that a first start writes says what is so without
// it, and names every setting.
func TestDefaultDocument(t *testing.T) {
	empty := startManager(t, "# nothing\n", func(*reload.Manager[Config]) {})
	values, err := flatten("default.yaml", defaultDocument)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := empty.Plan(values)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range plan.Changes {
		if !strings.HasPrefix(c.Key, "public.") {
			t.Errorf("%s is %v in the document, and %v by default", c.Key, c.New, c.Old)
		}
	}
	for _, s := range empty.Settings() {
		name := s.Key[strings.LastIndex(s.Key, ".")+1:]
		if !strings.Contains(string(defaultDocument), name+":") {
			t.Errorf("the document does not mention %s", s.Key)
		}
	}

	// What is commented out is a config too.
	var whole strings.Builder
	for line := range strings.Lines(string(defaultDocument)) {
		trimmed := strings.TrimLeft(line, " ")
		indent := line[:len(line)-len(trimmed)]
		text, commented := strings.CutPrefix(trimmed, "# ")
		if key, _, ok := strings.Cut(strings.TrimLeft(text, " "), ":"); commented && ok && !strings.ContainsAny(key, " '") && key == strings.ToLower(key) {
			line = indent + text
		}
		whole.WriteString(line)
	}
	text := strings.ReplaceAll(whole.String(), "16 bytes at least", "0123456789abcdef")
	if values, err = flatten("default.yaml", []byte(text)); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if plan, err = empty.Plan(values); err != nil || len(plan.Changes) != 14 {
		t.Errorf("%d changes, %v\n%s", len(plan.Changes), err, text)
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"127.0.0.1:80", ":80", true},
		{"127.0.0.1:80", "[::]:80", true},
		{"[::1]:80", "[::]:80", true},
		{"[::1]:80", "0.0.0.0:80", false},
		{"0.0.0.0:80", ":80", true},
		{"[0:0:0:0:0:0:0:1]:80", "[::1]:80", true},
		{"example.com:80", "EXAMPLE.com:80", true},
		{"example.com:80", "127.0.0.1:80", false},
		{"127.0.0.1:080", "127.0.0.1:80", true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":0", ":00", false},
		{"unix:/run/svc.sock", "unix:/run/svc.sock", false}, // the operator's are none
		{"", "127.0.0.1:80", false},
	} {
		if got := overlap(c.a, c.b); got != c.want {
			t.Errorf("overlap(%q, %q) = %v", c.a, c.b, got)
		}
		if got := overlap(c.b, c.a); got != c.want {
			t.Errorf("overlap(%q, %q) = %v", c.b, c.a, got)
		}
	}
}
