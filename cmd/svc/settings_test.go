//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/reload"
)

// settings are the content of a config file by full keys. Values are JSON,
// which YAML takes.
type settings map[string]any

// with is a copy with another value; nil takes the key away.
func (s settings) with(key string, value any) settings {
	out := maps.Clone(s)
	if out[key] = value; value == nil {
		delete(out, key)
	}
	return out
}

func (s settings) yaml(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(s)) {
		value, err := json.Marshal(s[key])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", key, value)
	}
	return b.String()
}

// apply edits the config, has it read at once, and returns what became of it.
func (r *running) apply(s settings) reload.Entry {
	r.t.Helper()
	r.edit(s.yaml(r.t))
	r.post("/api/v1/reload")
	// The watcher may have been quicker: then it is the change before this read.
	return r.current().Last
}

// operator calls the service's socket.
func (r *running) operator() *admin.Client {
	r.t.Helper()
	c, err := admin.NewClient("unix:"+r.path(".svc/admin.sock"), admin.ClientOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *running) post(path string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var answer any
	if err := r.operator().Post(ctx, path, nil, nil, &answer); err != nil {
		r.t.Fatalf("%v\n%s", err, r.log)
	}
}

// current is the status, without a process for it.
func (r *running) current() status {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var st status
	if err := r.operator().Get(ctx, "/api/v1/status", &st); err != nil {
		r.t.Fatalf("%v\n%s", err, r.log)
	}
	return st
}

// applied fails unless a change took effect in place, with these keys.
func (r *running) applied(e reload.Entry, keys ...string) {
	r.t.Helper()
	slices.Sort(keys)
	if e.Outcome != reload.Applied || e.Action != reload.ActionInPlace || !slices.Equal(e.Changed, keys) {
		r.t.Errorf("%s (%s), changed %v, want %v: %s", e.Outcome, e.Action, e.Changed, keys, e.Reason)
	}
}
